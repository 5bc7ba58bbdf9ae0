//! ApiVersions: versions 0 to 4. Which versions of which API the broker speaks, and its features.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::answer;
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{Error, ErrorCode, ErrorKind, Result};

const VERSIONS: RangeInclusive<i16> = 0..=4;
const FLEXIBLE_FROM: i16 = 3;

/// The newest version, with which every connection starts.
pub const NEWEST: i16 = *VERSIONS.end();

/// Asks a broker what it speaks, and says who asks (KIP-511).
#[derive(Clone, Debug)]
pub struct ApiVersionsRequest {
    /// The client's name: letters, digits, dots and hyphens.
    pub software_name: &'static str,
    /// The client's version: the same characters.
    pub software_version: &'static str,
}

impl Default for ApiVersionsRequest {
    fn default() -> Self {
        Self { software_name: env!("CARGO_PKG_NAME"), software_version: env!("CARGO_PKG_VERSION") }
    }
}

impl Request for ApiVersionsRequest {
    fn api(&self) -> ApiKey {
        ApiKey::ApiVersions
    }

    fn versions(&self) -> RangeInclusive<i16> {
        VERSIONS
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, version >= FLEXIBLE_FROM);
        if version >= 3 {
            writer.string(self.software_name)?;
            writer.string(self.software_version)?;
        }
        writer.no_tags();
        Ok(())
    }
}

/// What a broker speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// UNSUPPORTED_VERSION when the broker does not know the version it was asked in.
    pub error: Option<ErrorCode>,
    /// The versions of each API.
    pub apis: Vec<ApiRange>,
    /// How long to pause before the next request (KIP-219); at most 5 minutes.
    pub throttle: Duration,
    /// The features the broker could run with (KIP-584).
    pub supported_features: Vec<Feature>,
    /// The age of the finalized features; −1 when not told.
    pub finalized_features_epoch: i64,
    /// The features the cluster runs with, e.g. `transaction.version`.
    pub finalized_features: Vec<Feature>,
}

/// The versions of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API's key. Not an [`ApiKey`]: brokers have APIs that this client does not know.
    pub api_key: i16,
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

/// The levels of a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: StrBytes,
    /// The lowest.
    pub min: i16,
    /// The highest; of a finalized feature, the one in force.
    pub max: i16,
}

impl ApiVersionsResponse {
    /// Decodes the answer to an [`ApiVersionsRequest`].
    ///
    /// A broker that does not know the version answers UNSUPPORTED_VERSION in version 0, whatever it was
    /// asked in (KIP-511).
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode(response: &Response) -> Result<Self> {
        let mut response = response.clone();
        if response.body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes()) {
            response.version = 0;
        }
        answer::decode(&response, ApiKey::ApiVersions, VERSIONS, FLEXIBLE_FROM, |reader| {
            Self::read(reader, response.version)
        })
    }

    /// The version to ask again in, after version `asked` was not supported: strictly lower, so that a
    /// broker cannot keep a client asking.
    ///
    /// # Errors
    /// `Unsupported`, when there is none.
    pub fn fallback(&self, asked: i16) -> Result<i16> {
        let told = self.apis.iter().find(|range| range.api_key == ApiKey::ApiVersions as i16);
        // Brokers before 2.4 do not tell.
        let newest = told.map_or(0, |range| range.max);
        if asked <= 0 || told.is_some_and(|range| range.min > newest || range.min >= asked) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "ask for the broker's versions in ApiVersions version {asked}: it is refused, and so are older ones"
                ),
            ));
        }
        Ok(newest.clamp(0, asked - 1))
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let mut answer = Self {
            error: ErrorCode::from_wire(reader.i16()?),
            apis: reader.array(6, ApiRange::read)?,
            throttle: answer::throttle(if version >= 1 { reader.i32()? } else { 0 }),
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            finalized_features: Vec::new(),
        };
        reader.tags(|reader, tag| {
            match tag {
                0 => answer.supported_features = reader.array(6, Feature::read_supported)?,
                1 => answer.finalized_features_epoch = reader.i64()?,
                2 => answer.finalized_features = reader.array(6, Feature::read_finalized)?,
                _ => return Ok(false), // 3 says whether a ZooKeeper cluster can be migrated
            }
            Ok(true)
        })?;
        Ok(answer)
    }
}

impl ApiRange {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let range = Self { api_key: reader.i16()?, min: reader.i16()?, max: reader.i16()? };
        reader.skip_tags()?;
        Ok(range)
    }
}

impl Feature {
    fn read_supported(reader: &mut Reader<'_>) -> Read<Self> {
        let feature = Self { name: reader.string()?, min: reader.i16()?, max: reader.i16()? };
        reader.skip_tags()?;
        Ok(feature)
    }

    /// The maximum comes first here.
    fn read_finalized(reader: &mut Reader<'_>) -> Read<Self> {
        let (name, max, min) = (reader.string()?, reader.i16()?, reader.i16()?);
        reader.skip_tags()?;
        Ok(Self { name, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{self, Decodable as _, Encodable as _, api_versions_response as theirs};
    use super::*;
    use bytes::{Bytes, BytesMut};

    #[test]
    fn kafka_protocol_reads_what_is_written_in_every_version() {
        for version in VERSIONS {
            let mut frame = FrameBuilder::new();
            ApiVersionsRequest::default().encode(version, &mut frame).unwrap();
            let mut bytes = Bytes::from(frame.finish().concat());
            let read = messages::ApiVersionsRequest::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty());
            assert_eq!(read.client_software_name.as_str(), if version >= 3 { "tidewater-kafka" } else { "" });
        }
    }

    #[test]
    fn what_kafka_protocol_writes_is_read_in_every_version() {
        for version in VERSIONS {
            let mut theirs = messages::ApiVersionsResponse::default().with_api_keys(vec![
                theirs::ApiVersion::default().with_api_key(3).with_min_version(0).with_max_version(13),
            ]);
            if version >= 3 {
                theirs.finalized_features_epoch = 8;
                theirs.zk_migration_ready = true;
                theirs.finalized_features = vec![
                    theirs::FinalizedFeatureKey::default()
                        .with_name("transaction.version".into())
                        .with_max_version_level(2)
                        .with_min_version_level(1),
                ];
                theirs.supported_features = vec![
                    theirs::SupportedFeatureKey::default()
                        .with_name("transaction.version".into())
                        .with_min_version(0)
                        .with_max_version(3),
                ];
            }
            let mut body = BytesMut::new();
            theirs.encode(&mut body, version).unwrap();
            let response = Response { api: ApiKey::ApiVersions, version, body: body.freeze() };
            let answer = ApiVersionsResponse::decode(&response).unwrap();
            assert_eq!(answer.apis, [ApiRange { api_key: 3, min: 0, max: 13 }]);
            let feature = |min, max| Feature { name: "transaction.version".into(), min, max };
            let has = |feature| if version >= 3 { vec![feature] } else { vec![] };
            assert_eq!(answer.finalized_features, has(feature(1, 2)));
            assert_eq!(answer.supported_features, has(feature(0, 3)));
            assert_eq!(answer.finalized_features_epoch, if version >= 3 { 8 } else { -1 });
            for end in 0..response.body.len() {
                let cut = Response { body: response.body.slice(..end), ..response.clone() };
                assert!(ApiVersionsResponse::decode(&cut).is_err(), "version {version}, {end} bytes");
            }
        }
    }

    #[test]
    fn an_old_broker_is_asked_again_in_an_older_version() {
        let refuse = |apis: &[u8]| {
            let body = Bytes::from([&[0, 35][..], apis].concat());
            let response = Response { api: ApiKey::ApiVersions, version: 4, body };
            ApiVersionsResponse::decode(&response).unwrap()
        };
        let silent = refuse(&[0, 0, 0, 0]);
        assert_eq!(silent.error, Some(ErrorCode::UNSUPPORTED_VERSION));
        assert_eq!(silent.fallback(4).unwrap(), 0);
        assert_eq!(silent.fallback(0).unwrap_err().kind(), ErrorKind::Unsupported);
        let telling = refuse(&[0, 0, 0, 1, 0, 18, 0, 0, 0, 3]);
        assert_eq!(telling.fallback(4).unwrap(), 3);
        let lying = refuse(&[0, 0, 0, 1, 0, 18, 0, 0, 0, 9]);
        assert_eq!(lying.fallback(4).unwrap(), 3, "always lower, so that it ends");
        assert!(refuse(&[0, 0, 0, 1, 0, 18, 0, 5, 0, 9]).fallback(4).is_err());
    }
}
