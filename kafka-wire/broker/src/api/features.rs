//! UpdateFeatures 0–2.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_wire::protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_wire::protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::{Answer, Context, text};
use crate::authorizer::Operation;
use crate::cluster::Cluster;
use crate::error::{Failure, fail};
use crate::features;
use crate::setting::Setting;

/// From here on all updates are carried out or none is, and the answer is one code for all.
const ALL_OR_NONE_FROM: i16 = 2;

pub(super) fn update(cluster: &mut Cluster, context: &Context, request: UpdateFeaturesRequest) -> Answer {
    let mut answer = UpdateFeaturesResponse::default().with_error_message(None);
    let refused =
        context.injected_for_request().or_else(|| context.authorize_cluster(Operation::Alter).err());
    if let Some(code) = refused {
        answer.error_code = code.code();
        return context.answer(&answer);
    }
    let checked: Vec<Result<(), Failure>> =
        request.feature_updates.iter().map(|update| check(cluster, context, update)).collect();
    let first_refusal = checked.iter().find_map(|result| result.as_ref().err()).cloned();
    for (update, result) in request.feature_updates.iter().zip(&checked) {
        let all_pass = context.version < ALL_OR_NONE_FROM || first_refusal.is_none();
        if result.is_ok() && all_pass && !request.validate_only {
            let (name, level) = (update.feature.to_string(), update.max_version_level);
            cluster.set(Setting::Feature { name, level });
        }
        if context.version < ALL_OR_NONE_FROM {
            let failure = result.as_ref().err();
            let described = UpdatableFeatureResult::default()
                .with_feature(update.feature.clone())
                .with_error_code(failure.map_or(0, |failure| failure.code.code()))
                .with_error_message(failure.map(|failure| text(&*failure.text)));
            answer.results.push(described);
        }
    }
    if let Some(failure) = first_refusal.filter(|_| context.version >= ALL_OR_NONE_FROM) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
    }
    context.answer(&answer)
}

fn check(cluster: &Cluster, context: &Context, update: &FeatureUpdateKey) -> Result<(), Failure> {
    let (name, wanted) = (update.feature.as_str(), update.max_version_level);
    let Some(feature) = features::find(name) else {
        return fail(
            ErrorCode::INVALID_UPDATE_VERSION,
            format!(
                "Invalid update version {wanted} for feature {name}. Local controller 0 does not support this feature."
            ),
        );
    };
    if !(feature.min..=feature.max).contains(&wanted) {
        return fail(
            ErrorCode::INVALID_UPDATE_VERSION,
            format!(
                "Invalid update version {wanted} for feature {name}. Local controller 0 only supports versions {}-{}",
                feature.min, feature.max
            ),
        );
    }
    // 1 only upgrades, 2 and 3 also downgrade.
    let may_downgrade = if context.version == 0 { update.allow_downgrade } else { update.upgrade_type >= 2 };
    let current = cluster.features.level(feature);
    if wanted < current && !may_downgrade {
        return fail(
            ErrorCode::INVALID_UPDATE_VERSION,
            format!(
                "Invalid update version {wanted} for feature {name}. Can't downgrade the version of this feature \
                 without setting the upgrade type to either safe or unsafe downgrade."
            ),
        );
    }
    Ok(())
}
