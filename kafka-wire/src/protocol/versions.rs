//! Which versions a broker speaks, and which one to use.

use std::ops::RangeInclusive;

use super::api_versions::{ApiVersionsResponse, Feature};
use super::messages::ApiKey;
use crate::error::{Error, ErrorKind, Result};

/// The versions that a broker speaks of each API, and the features that its cluster runs with.
#[derive(Clone, Debug)]
pub struct VersionTable {
    /// Sorted by API key.
    ranges: Vec<(i16, RangeInclusive<i16>)>,
    finalized_features: Vec<Feature>,
}

impl VersionTable {
    /// From a broker's answer.
    ///
    /// # Errors
    /// `Broker`, when the answer is an error; `Protocol`, when its ranges make no sense.
    pub fn new(answer: ApiVersionsResponse) -> Result<Self> {
        if let Some(code) = answer.error {
            return Err(Error::broker(code, "ask for the broker's versions"));
        }
        let mut ranges = Vec::with_capacity(answer.apis.len());
        for api in &answer.apis {
            if api.min < 0 || api.min > api.max {
                return Err(unreasonable(format!(
                    "{} has versions {} to {}",
                    name(api.api_key),
                    api.min,
                    api.max
                )));
            }
            ranges.push((api.api_key, api.min..=api.max));
        }
        ranges.sort_unstable_by_key(|(key, _)| *key);
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(unreasonable(format!("{} is listed twice", name(pair[0].0))));
        }
        let has = |api: ApiKey| ranges.iter().any(|(key, _)| *key == api as i16);
        if !has(ApiKey::Metadata) {
            return Err(unreasonable(format!("{} APIs are listed, Metadata is not", ranges.len()))
                .with_hint("set `bootstrap.servers` to brokers, not to controllers"));
        }
        Ok(Self { ranges, finalized_features: answer.finalized_features })
    }

    /// The versions of `api` that the broker speaks.
    pub fn range(&self, api: ApiKey) -> Option<RangeInclusive<i16>> {
        let index = self.ranges.binary_search_by_key(&(api as i16), |(key, _)| *key).ok()?;
        Some(self.ranges[index].1.clone())
    }

    /// The newest version of `api` that the broker and the caller speak.
    ///
    /// # Errors
    /// `Unsupported`, with what each side speaks.
    pub fn pick(&self, api: ApiKey, ours: RangeInclusive<i16>) -> Result<i16> {
        let Some(theirs) = self.range(api) else {
            return Err(unsupported(api, format!("the broker does not speak {api:?}")));
        };
        let newest = *ours.end().min(theirs.end());
        if newest < *ours.start().max(theirs.start()) {
            let ranges = format!(
                "the broker speaks {api:?} versions {} to {}, this request needs {} to {}",
                theirs.start(),
                theirs.end(),
                ours.start(),
                ours.end()
            );
            return Err(unsupported(api, ranges));
        }
        Ok(newest)
    }

    /// The level of a feature that the cluster runs with, e.g. 2 for `transaction.version`; 0 when it has none.
    pub fn finalized_feature(&self, name: &str) -> i16 {
        let feature = self.finalized_features.iter().find(|feature| &*feature.name == name);
        feature.map_or(0, |feature| feature.max)
    }
}

fn name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| format!("API {key}"), |api| api.name().to_owned())
}

fn unreasonable(what: String) -> Error {
    Error::new(ErrorKind::Protocol, format!("read the broker's versions: {what}"))
}

fn unsupported(api: ApiKey, what: String) -> Error {
    Error::new(ErrorKind::Unsupported, format!("choose a version of {api:?}: {what}"))
        .with_hint("Kafka 2.4 and newer are supported")
}

#[cfg(test)]
mod tests {
    use super::super::api_versions::ApiRange;
    use super::*;

    fn answer(ranges: &[(i16, i16, i16)]) -> ApiVersionsResponse {
        ApiVersionsResponse {
            error: None,
            apis: ranges.iter().map(|&(api_key, min, max)| ApiRange { api_key, min, max }).collect(),
            throttle: std::time::Duration::ZERO,
            supported_features: Vec::new(),
            finalized_features_epoch: 1,
            finalized_features: vec![Feature { name: "transaction.version".into(), min: 0, max: 2 }],
        }
    }

    #[test]
    fn the_newest_common_version_is_picked() {
        let table = VersionTable::new(answer(&[(3, 0, 9), (1, 4, 16), (2000, 0, 1)])).unwrap();
        assert_eq!(table.pick(ApiKey::Metadata, 1..=13).unwrap(), 9);
        assert_eq!(table.pick(ApiKey::Fetch, 4..=12).unwrap(), 12);
        assert_eq!(table.pick(ApiKey::Fetch, 16..=18).unwrap(), 16);
        assert_eq!(table.finalized_feature("transaction.version"), 2);
        assert_eq!(table.finalized_feature("share.version"), 0);
    }

    #[test]
    fn no_common_version_is_an_error_with_both_sides() {
        let table = VersionTable::new(answer(&[(3, 0, 9), (1, 4, 16)])).unwrap();
        let error = table.pick(ApiKey::Fetch, 17..=18).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("Fetch versions 4 to 16") && text.contains("needs 17 to 18"), "{text}");
        let error = table.pick(ApiKey::Produce, 3..=13).unwrap_err();
        assert!(error.to_string().contains("does not speak Produce"), "{error}");
    }

    #[test]
    fn ranges_that_make_no_sense_are_errors_that_name_the_api() {
        for (ranges, text) in [
            (&[(1, 5, 4)][..], "Fetch has versions 5 to 4"),
            (&[(0, -1, 4)], "Produce has versions -1 to 4"),
            (&[(3, 0, 9), (1, 0, 1), (3, 0, 9)], "Metadata is listed twice"),
            (&[(3, 0, 9), (999, 2, 1)], "API 999 has versions 2 to 1"),
            (&[], "0 APIs are listed, Metadata is not"),
        ] {
            let error = VersionTable::new(answer(ranges)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
