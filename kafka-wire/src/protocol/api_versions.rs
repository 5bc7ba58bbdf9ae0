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
