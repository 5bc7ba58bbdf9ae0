//! DescribeAcls 1–3, CreateAcls 1–3, DeleteAcls 1–3.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::create_acls_request::AclCreation;
use kafka_wire::protocol::messages::create_acls_response::AclCreationResult;
use kafka_wire::protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_wire::protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_wire::protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};

use super::{Answer, Context, text};
use crate::authorizer::{ACLS_MAX, Acl, CLUSTER_NAME, Operation, PatternType, ResourceType};
use crate::cluster::Cluster;
use crate::error::{Failure, code_of, fail};
use crate::setting::Setting;

/// In a filter: any type, operation, permission or pattern.
const ANY: i8 = 1;
/// In a filter: every pattern that names the resource.
const MATCH: i8 = 2;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

/// Which entries a request speaks of; `None` and [`ANY`] are any.
struct Filter<'a> {
    resource_type: i8,
    name: Option<&'a str>,
    pattern_type: i8,
    principal: Option<&'a str>,
    host: Option<&'a str>,
    operation: i8,
    permission: i8,
}

impl Filter<'_> {
    fn matches(&self, acl: &Acl) -> bool {
        let number = |wanted: i8, has: i8| wanted == ANY || wanted == has;
        let text = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| wanted == has);
        number(self.resource_type, acl.resource_type.to_wire())
            && self.matches_name(acl)
            && text(self.principal, &acl.principal)
            && text(self.host, &acl.host)
            && number(self.operation, acl.operation.to_wire())
            && number(self.permission, permission(acl))
    }

    fn matches_name(&self, acl: &Acl) -> bool {
        if self.pattern_type == MATCH {
            return self.name.is_none_or(|name| match acl.pattern_type {
                PatternType::Literal => acl.name == name || acl.name == "*",
                PatternType::Prefixed => name.starts_with(&acl.name),
            });
        }
        (self.pattern_type == ANY || self.pattern_type == acl.pattern_type.to_wire())
            && self.name.is_none_or(|name| name == acl.name)
    }
}

const fn permission(acl: &Acl) -> i8 {
    if acl.allows { ALLOW } else { DENY }
}

/// Whether the lists may be used now, for reading or for writing.
fn check(context: &Context, operation: Operation) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    context.authorize_cluster(operation)?;
    if context.authorizer.is_enabled() {
        return Ok(());
    }
    fail(ErrorCode::SECURITY_DISABLED, "No Authorizer is configured.")
}

pub(super) fn describe(_: &mut Cluster, context: &Context, request: DescribeAclsRequest) -> Answer {
    let mut answer = DescribeAclsResponse::default().with_error_message(None);
    if let Err(failure) = check(context, Operation::Describe) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        return context.answer(&answer);
    }
    let filter = Filter {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter.as_deref(),
        pattern_type: request.pattern_type_filter,
        principal: request.principal_filter.as_deref(),
        host: request.host_filter.as_deref(),
        operation: request.operation,
        permission: request.permission_type,
    };
    // They are sorted by resource.
    for acl in context.authorizer.acls().iter().filter(|acl| filter.matches(acl)) {
        let (kind, pattern) = (acl.resource_type.to_wire(), acl.pattern_type.to_wire());
        let is_same = |known: &&mut DescribeAclsResource| {
            (known.resource_type, known.pattern_type, known.resource_name.as_str())
                == (kind, pattern, acl.name.as_str())
        };
        let described = AclDescription::default()
            .with_principal(text(&*acl.principal))
            .with_host(text(&*acl.host))
            .with_operation(acl.operation.to_wire())
            .with_permission_type(permission(acl));
        match answer.resources.last_mut().filter(is_same) {
            Some(known) => known.acls.push(described),
            None => answer.resources.push(
                DescribeAclsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(&*acl.name))
                    .with_pattern_type(pattern)
                    .with_acls(vec![described]),
            ),
        }
    }
    context.answer(&answer)
}

pub(super) fn create(cluster: &mut Cluster, context: &Context, request: CreateAclsRequest) -> Answer {
    let mut answer = CreateAclsResponse::default();
    for creation in &request.creations {
        let result = check(context, Operation::Alter).and_then(|()| read(creation)).and_then(|acl| {
            if cluster.authorizer.acls().len() >= ACLS_MAX {
                return fail(ErrorCode::INVALID_REQUEST, format!("there are {ACLS_MAX} entries already"));
            }
            cluster.set(Setting::Acl(acl));
            Ok(())
        });
        let described = AclCreationResult::default()
            .with_error_code(code_of(&result))
            .with_error_message(result.err().map(|failure| text(failure.text)));
        answer.results.push(described);
    }
    context.answer(&answer)
}

/// The entry that a request asks for, if there can be such an entry (as `AclControlManager.validateNewAcl`).
fn read(creation: &AclCreation) -> Result<Acl, Failure> {
    let invalid = |what: &str| Failure {
        code: ErrorCode::INVALID_REQUEST,
        text: format!("the entry's {what} is not possible").into(),
    };
    let resource_type =
        ResourceType::from_wire(creation.resource_type).ok_or_else(|| invalid("resource type"))?;
    let pattern_type =
        PatternType::from_wire(creation.resource_pattern_type).ok_or_else(|| invalid("pattern type"))?;
    let operation = Operation::from_wire(creation.operation).ok_or_else(|| invalid("operation"))?;
    let allows = match creation.permission_type {
        ALLOW => true,
        DENY => false,
        _ => return Err(invalid("permission type")),
    };
    let name = creation.resource_name.as_str();
    if name.is_empty() {
        return fail(ErrorCode::INVALID_REQUEST, "Invalid empty resource name");
    }
    if resource_type == ResourceType::Cluster && name != CLUSTER_NAME {
        return fail(
            ErrorCode::INVALID_REQUEST,
            format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}"),
        );
    }
    if !creation.principal.contains(':') {
        return fail(
            ErrorCode::INVALID_REQUEST,
            format!("Could not parse principal from `{}` (no colon is present)", creation.principal.as_str()),
        );
    }
    Ok(Acl {
        resource_type,
        pattern_type,
        name: name.to_owned(),
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation,
        allows,
    })
}

pub(super) fn delete(cluster: &mut Cluster, context: &Context, request: DeleteAclsRequest) -> Answer {
    let mut answer = DeleteAclsResponse::default();
    for wanted in &request.filters {
        let filter = Filter {
            resource_type: wanted.resource_type_filter,
            name: wanted.resource_name_filter.as_deref(),
            pattern_type: wanted.pattern_type_filter,
            principal: wanted.principal_filter.as_deref(),
            host: wanted.host_filter.as_deref(),
            operation: wanted.operation,
            permission: wanted.permission_type,
        };
        let mut result = DeleteAclsFilterResult::default().with_error_message(None);
        match check(context, Operation::Alter) {
            Ok(()) => {
                let gone: Vec<Acl> =
                    cluster.authorizer.acls().iter().filter(|acl| filter.matches(acl)).cloned().collect();
                result.matching_acls = gone.iter().map(deleted).collect();
                gone.into_iter().for_each(|acl| cluster.set(Setting::AclRemoved(acl)));
            }
            Err(failure) => {
                result.error_code = failure.code.code();
                result.error_message = Some(text(failure.text));
            }
        }
        answer.filter_results.push(result);
    }
    context.answer(&answer)
}

fn deleted(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(acl.resource_type.to_wire())
        .with_resource_name(text(&*acl.name))
        .with_pattern_type(acl.pattern_type.to_wire())
        .with_principal(text(&*acl.principal))
        .with_host(text(&*acl.host))
        .with_operation(acl.operation.to_wire())
        .with_permission_type(permission(acl))
}
