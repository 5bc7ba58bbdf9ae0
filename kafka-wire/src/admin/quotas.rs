//! Quotas of clients (KIP-546): how much a user, a client id or an address may use.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::cluster::Whole;
use super::wire::{one, outcome, text};
use super::{Key, Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::StrBytes;
use crate::protocol::messages::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use crate::protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use crate::protocol::request::{Plain, Request, Response};

/// For whom a quota holds: `user`, `client-id`, both, or `ip`; a name, or the default of all that have none of
/// their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaEntity(BTreeMap<String, Option<String>>);

impl QuotaEntity {
    /// A user.
    pub fn user(name: impl Into<String>) -> Self {
        Self::default().and("user", Some(name.into()))
    }

    /// A client id.
    pub fn client_id(name: impl Into<String>) -> Self {
        Self::default().and("client-id", Some(name.into()))
    }

    /// An address.
    pub fn ip(address: impl Into<String>) -> Self {
        Self::default().and("ip", Some(address.into()))
    }

    /// All of a type (`user`, `client-id`, `ip`) that have no quota of their own.
    pub fn default_of(entity_type: impl Into<String>) -> Self {
        Self::default().and(entity_type, None)
    }

    /// And this, too: `QuotaEntity::user("a").and("client-id", Some("b".into()))`. `None` is the default.
    #[must_use]
    pub fn and(mut self, entity_type: impl Into<String>, name: Option<String>) -> Self {
        self.0.insert(entity_type.into(), name);
        self
    }

    /// Its parts: types, with names or `None` for the default.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(kind, name)| (kind.as_str(), name.as_deref()))
    }

    fn read(parts: impl Iterator<Item = (StrBytes, Option<StrBytes>)>) -> Self {
        Self(parts.map(|(kind, name)| (kind.to_string(), name.map(|name| name.to_string()))).collect())
    }
}

impl Key for QuotaEntity {}

impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, name)) in self.parts().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match name {
                Some(name) => write!(f, "{comma}{kind} {name}")?,
                None => write!(f, "{comma}default {kind}")?,
            }
        }
        Ok(())
    }
}

/// Which entities of a type are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuotaMatch {
    /// The one of this name.
    Exact(String),
    /// The default.
    Default,
    /// Any that has a quota of its own, and the default.
    Any,
}

/// Which entities are meant; with nothing in it, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    /// For each type, which ones.
    pub components: BTreeMap<String, QuotaMatch>,
    /// Only entities with no other parts than these.
    pub strict: bool,
}

pub(crate) struct DescribeQuotas {
    pub(crate) filter: QuotaFilter,
}

impl Operation for DescribeQuotas {
    type Key = Whole;
    type Item = ();
    type Output = BTreeMap<QuotaEntity, BTreeMap<String, f64>>;
    const ATTEMPT: &'static str = "describe the client quotas of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let components = self.filter.components.iter().map(|(kind, which)| {
            let (match_type, name) = match which {
                QuotaMatch::Exact(name) => (0, Some(text(name))),
                QuotaMatch::Default => (1, None),
                QuotaMatch::Any => (2, None),
            };
            ComponentData::default().with_entity_type(text(kind)).with_match_type(match_type).with_match(name)
        });
        let request = DescribeClientQuotasRequest::default()
            .with_components(components.collect())
            .with_strict(self.filter.strict);
        Box::new(Plain::new(request))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeClientQuotasRequest>()?;
        let entries = answer.entries.unwrap_or_default().into_iter().map(|entry| {
            let parts = entry.entity.into_iter().map(|part| (part.entity_type, part.entity_name));
            let values = entry.values.into_iter().map(|value| (value.key.to_string(), value.value));
            (QuotaEntity::read(parts), values.collect())
        });
        Ok(one(items, outcome(answer.error_code, answer.error_message, entries.collect())))
    }
}

/// Sets quotas, or removes them with `None`.
pub(crate) struct AlterQuotas {
    /// Only asks whether it would be done.
    pub(crate) validate_only: bool,
}

impl Operation for AlterQuotas {
    type Key = QuotaEntity;
    type Item = BTreeMap<String, Option<f64>>;
    type Output = ();
    const ATTEMPT: &'static str = "change the quotas of";

    fn target(&self, _: &QuotaEntity, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(QuotaEntity, Self::Item)], _: Duration) -> Box<dyn Request> {
        let entries = items.iter().map(|(entity, values)| {
            let parts = entity.parts().map(|(kind, name)| {
                EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
            });
            let ops = values.iter().map(|(key, value)| {
                OpData::default()
                    .with_key(text(key))
                    .with_value(value.unwrap_or_default())
                    .with_remove(value.is_none())
            });
            EntryData::default().with_entity(parts.collect()).with_ops(ops.collect())
        });
        let request = AlterClientQuotasRequest::default()
            .with_entries(entries.collect())
            .with_validate_only(self.validate_only);
        Box::new(Plain::new(request))
    }

    fn read(&self, _: &[(QuotaEntity, Self::Item)], response: Response) -> Result<Outcomes<QuotaEntity, ()>> {
        let answer = response.decode::<AlterClientQuotasRequest>()?;
        let outcomes = answer.entries.into_iter().map(|entry| {
            let parts = entry.entity.into_iter().map(|part| (part.entity_type, part.entity_name));
            (QuotaEntity::read(parts), outcome(entry.error_code, entry.error_message, ()))
        });
        Ok(outcomes.collect())
    }
}
