//! Features that a cluster runs with (KIP-584), such as `metadata.version` and `transaction.version`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Whole;
use super::names::numbered;
use super::wire::{all, broker, millis, one, outcome, refusal, text};
use super::{Operation, Outcomes, Refusal, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse, Feature};
use crate::protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::BrokerId;

/// A range of a feature's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevels {
    /// The lowest.
    pub min: i16,
    /// The highest; of a finalized feature, the one in force.
    pub max: i16,
}

/// The features that a cluster runs with, and those that it could run with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureMetadata {
    /// What is in force.
    pub finalized: BTreeMap<String, FeatureLevels>,
    /// How often that has changed; `None` where the broker does not say.
    pub finalized_epoch: Option<i64>,
    /// What the broker that was asked could run with.
    pub supported: BTreeMap<String, FeatureLevels>,
}

pub(crate) struct DescribeFeatures {
    /// Who is asked; anybody with `None`.
    pub(crate) broker: Option<BrokerId>,
}

impl Operation for DescribeFeatures {
    type Key = Whole;
    type Item = ();
    type Output = FeatureMetadata;
    const ATTEMPT: &'static str = "describe the features of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(self.broker.map_or(Target::Any, broker))
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        Box::new(ApiVersionsRequest::default())
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = ApiVersionsResponse::decode(&response)?;
        if let Some(code) = answer.error {
            return Ok(one(items, Err(Refusal { code, message: None })));
        }
        let levels = |features: Vec<Feature>| {
            let features = features.into_iter();
            features.map(|f| (f.name.to_string(), FeatureLevels { min: f.min, max: f.max })).collect()
        };
        let metadata = FeatureMetadata {
            finalized: levels(answer.finalized_features),
            finalized_epoch: super::wire::known(answer.finalized_features_epoch),
            supported: levels(answer.supported_features),
        };
        Ok(one(items, Ok(metadata)))
    }
}

numbered! {
    /// In which direction a feature may be changed.
    UpgradeType, "an upgrade type" {
        /// Up only.
        Upgrade = 1 "UPGRADE",
        /// Down, if nothing is lost.
        SafeDowngrade = 2 "SAFE_DOWNGRADE",
        /// Down, whatever is lost.
        UnsafeDowngrade = 3 "UNSAFE_DOWNGRADE",
    }
}

/// To which level a feature is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The level that shall be in force; 0 takes the feature out of force.
    pub level: i16,
    /// In which direction that may be.
    pub upgrade_type: UpgradeType,
}

impl FeatureUpdate {
    /// Up to `level`.
    pub fn upgrade(level: i16) -> Self {
        Self { level, upgrade_type: UpgradeType::Upgrade }
    }
}

pub(crate) struct UpdateFeatures {
    /// Only asks whether it would be done.
    pub(crate) validate_only: bool,
}

impl Operation for UpdateFeatures {
    type Key = String;
    type Item = FeatureUpdate;
    type Output = ();
    const ATTEMPT: &'static str = "change feature";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, FeatureUpdate)], timeout: Duration) -> Box<dyn Request> {
        let updates = items.iter().map(|(feature, update)| {
            FeatureUpdateKey::default()
                .with_feature(text(feature))
                .with_max_version_level(update.level)
                .with_upgrade_type(update.upgrade_type.to_wire())
        });
        let request = UpdateFeaturesRequest::default()
            .with_feature_updates(updates.collect())
            .with_timeout_ms(millis(timeout))
            .with_validate_only(self.validate_only);
        // Before version 1 (Kafka 3.3) there was no safe downgrade and no validation.
        Box::new(Plain::in_versions(request, 1..=2))
    }

    fn read(&self, items: &[(String, FeatureUpdate)], response: Response) -> Result<Outcomes<String, ()>> {
        let version = response.version;
        let answer = response.decode::<UpdateFeaturesRequest>()?;
        // From version 2 (Kafka 4.0) all are changed or none, and only the whole has an outcome.
        let whole = refusal(answer.error_code, answer.error_message);
        if version >= 2 || whole.is_some() {
            return Ok(all(items, &whole.map_or(Ok(()), Err)));
        }
        let outcomes = answer.results.into_iter();
        Ok(outcomes.map(|r| (r.feature.to_string(), outcome(r.error_code, r.error_message, ()))).collect())
    }
}
