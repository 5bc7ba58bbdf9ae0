//! A section: the state of one stateful operator's key groups as bytes, whole or as a delta.
//!
//! Layout (postcard): format version, name of the logic, schema, kind, range of key groups, watermarks by
//! run of key groups, then for each key group that has entries its number, length in bytes, count, entries.
//! The length lets a worker skip what another one owns without knowing the types.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec;
use super::key_group::{KeyGroup, KeyGroupRange};
use super::logic::SnapshotKind;
use crate::error::{Error, ErrorKind, Result};

/// The section format that this version writes; it reads no other yet.
const FORMAT_VERSION: u16 = 1;

/// What a section says of itself. A logic takes only sections of its own name and schema.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Header<'a> {
    version: u16,
    /// The logic and its parameters, as in `tumbling window of 10000 ms, …`.
    #[serde(borrow)]
    logic: &'a str,
    /// The version of the user's types, by the user.
    schema: u16,
    pub(crate) kind: SnapshotKind,
    pub(crate) groups: KeyGroupRange,
}

impl<'a> Header<'a> {
    pub(crate) const fn new(logic: &'a str, schema: u16, kind: SnapshotKind, groups: KeyGroupRange) -> Self {
        Self { version: FORMAT_VERSION, logic, schema, kind, groups }
    }
}

/// A run of key groups whose windows have fired up to the same watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatermarkRun {
    pub(crate) groups: KeyGroupRange,
    pub(crate) watermark_ms: i64,
}

/// What a worker takes from a section: entries of the key groups that it owns.
#[derive(Debug)]
pub(crate) struct Section<E> {
    pub(crate) kind: SnapshotKind,
    pub(crate) groups: KeyGroupRange,
    pub(crate) watermarks: Vec<WatermarkRun>,
    pub(crate) entries: Vec<(u64, E)>,
}

/// Appends a section; each of `entries` is (hash of its key, what is encoded).
pub(crate) fn write<E: Serialize>(
    header: Header<'_>,
    watermarks: &[WatermarkRun],
    mut entries: Vec<(u64, E)>,
    out: &mut Vec<u8>,
) -> Result<()> {
    entries.sort_unstable_by_key(|&(hash, _)| KeyGroup::of(hash));
    let logic = header.logic;
    try_write(header, watermarks, &entries, out).map_err(|error| {
        Error::new(ErrorKind::UserFunction, format!("encode {} entries of state of {logic}", entries.len()))
            .with_cause(error)
            .with_hint("the key's or the value's Serialize failed; state must be serializable by postcard")
    })
}

fn try_write<E: Serialize>(
    header: Header<'_>,
    watermarks: &[WatermarkRun],
    entries: &[(u64, E)],
    out: &mut Vec<u8>,
) -> postcard::Result<()> {
    codec::encode(&header, out)?;
    codec::encode(watermarks, out)?;
    let by_group = || entries.chunk_by(|(a, _), (b, _)| KeyGroup::of(*a) == KeyGroup::of(*b));
    codec::encode(&(by_group().count() as u64), out)?;
    for group in by_group() {
        out.push(KeyGroup::of(group[0].0).index() as u8);
        let length_at = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        codec::encode(&(group.len() as u64), out)?;
        for (_, entry) in group {
            codec::encode(entry, out)?;
        }
        let length = (out.len() - length_at - LENGTH_BYTES) as u64;
        out[length_at..length_at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// Reads the entries of the groups in `owned`; `hash` gives an entry's hash anew, which must lead to its group.
///
/// # Errors
/// [`ErrorKind::Refused`] for another logic, schema or format; [`ErrorKind::CorruptState`] for damage.
pub(crate) fn read<E: DeserializeOwned>(
    section: &[u8],
    logic: &str,
    schema: u16,
    owned: KeyGroupRange,
    mut hash: impl FnMut(&E) -> Result<u64>,
) -> Result<Section<E>> {
    let corrupt = |cause: &str| {
        Error::new(
            ErrorKind::CorruptState,
            format!("restore {logic} from a section of {} bytes: {cause}", section.len()),
        )
        .with_hint("its checksum was right, so another version or schema wrote it; start anew with --fresh or run the version that wrote it")
    };
    let damaged = |_: postcard::Error| corrupt("it is not a section of this operator's types");
    let mut input = section;
    let version: u16 = codec::decode(&mut { input }).map_err(damaged)?;
    if version != FORMAT_VERSION {
        return Err(refused(
            logic,
            format!("it has format version {version}, this program reads {FORMAT_VERSION}"),
        ));
    }
    let (header, rest) = postcard::take_from_bytes::<Header<'_>>(input).map_err(damaged)?;
    input = rest;
    if header.logic != logic {
        return Err(refused(logic, format!("it is the state of {}", header.logic)));
    }
    if header.schema != schema {
        return Err(refused(
            logic,
            format!("its types have schema version {}, the job's have {schema}", header.schema),
        ));
    }
    let watermarks: Vec<WatermarkRun> = codec::decode(&mut input).map_err(damaged)?;
    let group_count: u64 = codec::decode(&mut input).map_err(damaged)?;
    let mut entries = Vec::new();
    for _ in 0..group_count {
        let (group, mut bytes) = take_group(&mut input)
            .ok_or_else(|| corrupt("a key group is cut short or has no such number"))?;
        if !header.groups.contains(group) {
            return Err(corrupt("it holds a key group outside its own range"));
        }
        if !owned.contains(group) {
            continue;
        }
        let count: u64 = codec::decode(&mut bytes).map_err(damaged)?;
        for _ in 0..count {
            let entry = codec::decode(&mut bytes).map_err(damaged)?;
            let hash = hash(&entry)?;
            if KeyGroup::of(hash) != group {
                return Err(corrupt("a key is in the wrong key group"));
            }
            entries.push((hash, entry));
        }
        if !bytes.is_empty() {
            return Err(corrupt("a key group is longer than its entries"));
        }
    }
    if !input.is_empty() {
        return Err(corrupt("bytes follow its end"));
    }
    Ok(Section { kind: header.kind, groups: header.groups, watermarks, entries })
}

fn take_group<'a>(input: &mut &'a [u8]) -> Option<(KeyGroup, &'a [u8])> {
    let (&number, rest) = input.split_first()?;
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((KeyGroup::new(number.into())?, bytes))
}

fn refused(logic: &str, difference: String) -> Error {
    Error::new(ErrorKind::Refused, format!("restore {logic}: {difference}"))
        .with_hint("run the program that wrote it, or start anew with --fresh or under another --group")
}

/// Fixed width, since it is written after what it counts.
const LENGTH_BYTES: usize = size_of::<u64>();
