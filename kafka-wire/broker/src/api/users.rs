//! DescribeUserScramCredentials 0, AlterUserScramCredentials 0 (KIP-554).

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_wire::protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_wire::protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};

use super::{Answer, Context, text};
use crate::authorizer::Operation;
use crate::cluster::Cluster;
use crate::error::{Failure, code_of, fail};
use crate::setting::Setting;
use crate::users::{CREDENTIALS_MAX, ITERATIONS, ScramKey, StoredCredential, hash_of};

fn check(context: &Context, operation: Operation) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    Ok(context.authorize_cluster(operation)?)
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> Answer {
    let mut answer = DescribeUserScramCredentialsResponse::default().with_error_message(None);
    if let Err(failure) = check(context, Operation::Describe) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        return context.answer(&answer);
    }
    let wanted: Vec<String> = match request.users.filter(|users| !users.is_empty()) {
        Some(users) => users.iter().map(|user| user.name.to_string()).collect(),
        None => {
            let mut all: Vec<String> = cluster.users.iter().map(|(key, _)| key.user.clone()).collect();
            all.dedup();
            all
        }
    };
    let mut done: Vec<&str> = Vec::new();
    for user in &wanted {
        let times = wanted.iter().filter(|other| *other == user).count();
        if done.contains(&user.as_str()) {
            continue;
        }
        done.push(user);
        answer.results.push(describe_one(cluster, user, times > 1));
    }
    context.answer(&answer)
}

fn describe_one(cluster: &Cluster, user: &str, is_repeated: bool) -> DescribeUserScramCredentialsResult {
    let result = DescribeUserScramCredentialsResult::default().with_user(text(user)).with_error_message(None);
    let refuse = |code: ErrorCode, why: String| {
        result.clone().with_error_code(code.code()).with_error_message(Some(text(why)))
    };
    if is_repeated {
        let why =
            format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
        return refuse(ErrorCode::DUPLICATE_RESOURCE, why);
    }
    let credentials = cluster.users.iter().filter(|(key, _)| key.user == user).map(|(key, credential)| {
        CredentialInfo::default().with_mechanism(key.mechanism).with_iterations(credential.iterations)
    });
    let credentials: Vec<CredentialInfo> = credentials.collect();
    if credentials.is_empty() {
        let why = format!("Attempt to describe a user credential that does not exist: {user}");
        return refuse(ErrorCode::RESOURCE_NOT_FOUND, why);
    }
    result.with_credential_infos(credentials)
}

/// A change: to nothing, or to these keys.
struct Change {
    key: ScramKey,
    credential: Option<StoredCredential>,
}

pub(super) fn alter(
    cluster: &mut Cluster,
    context: &Context,
    request: AlterUserScramCredentialsRequest,
) -> Answer {
    let mut users: Vec<&str> = Vec::new();
    let named =
        request.deletions.iter().map(|it| &it.name).chain(request.upsertions.iter().map(|it| &it.name));
    for name in named {
        if !users.contains(&name.as_str()) {
            users.push(name);
        }
    }
    let mut answer = AlterUserScramCredentialsResponse::default();
    for user in users {
        // All of a user's changes, or none of them.
        let result = check(context, Operation::Alter).and_then(|()| changes(cluster, &request, user));
        let described = AlterUserScramCredentialsResult::default()
            .with_user(text(user))
            .with_error_code(code_of(&result))
            .with_error_message(result.as_ref().err().map(|failure| text(&*failure.text)));
        answer.results.push(described);
        for Change { key, credential } in result.unwrap_or_default() {
            cluster.set(Setting::Scram { key, credential });
        }
    }
    context.answer(&answer)
}

fn changes(
    cluster: &Cluster,
    request: &AlterUserScramCredentialsRequest,
    user: &str,
) -> Result<Vec<Change>, Failure> {
    if user.is_empty() {
        return fail(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
    }
    let mut changes: Vec<Change> = Vec::new();
    for deletion in request.deletions.iter().filter(|it| it.name.as_str() == user) {
        let key = ScramKey { user: user.to_owned(), mechanism: deletion.mechanism };
        hash_of(key.mechanism).ok_or(ErrorCode::UNSUPPORTED_SASL_MECHANISM)?;
        if cluster.users.scram(&key).is_none() {
            let why = "Attempt to delete a user credential that does not exist";
            return fail(ErrorCode::RESOURCE_NOT_FOUND, why);
        }
        changes.push(Change { key, credential: None });
    }
    for upsertion in request.upsertions.iter().filter(|it| it.name.as_str() == user) {
        let key = ScramKey { user: user.to_owned(), mechanism: upsertion.mechanism };
        let hash = hash_of(key.mechanism).ok_or(ErrorCode::UNSUPPORTED_SASL_MECHANISM)?;
        let iterations = upsertion.iterations;
        if !ITERATIONS.contains(&iterations) {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            return fail(
                ErrorCode::UNACCEPTABLE_CREDENTIAL,
                format!("{iterations} iterations are not within {least} to {most}"),
            );
        }
        if upsertion.salt.is_empty() || upsertion.salted_password.is_empty() {
            return fail(ErrorCode::UNACCEPTABLE_CREDENTIAL, "salt and salted password must not be empty");
        }
        if cluster.users.len() >= CREDENTIALS_MAX {
            return fail(
                ErrorCode::UNACCEPTABLE_CREDENTIAL,
                format!("there are {CREDENTIALS_MAX} credentials"),
            );
        }
        let salt = upsertion.salt.to_vec();
        let credential = StoredCredential::from_salted(hash, &upsertion.salted_password, salt, iterations);
        changes.push(Change { key, credential: Some(credential) });
    }
    let mut keys: Vec<&ScramKey> = changes.iter().map(|change| &change.key).collect();
    keys.sort();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        let why = "A user credential cannot be altered twice in the same request";
        return fail(ErrorCode::DUPLICATE_RESOURCE, why);
    }
    Ok(changes)
}
