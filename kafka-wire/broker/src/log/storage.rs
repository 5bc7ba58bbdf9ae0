//! Where a partition's batches are: in memory, or in one file that is appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use crate::batch::{HEADER_BYTES, Header, checksum_matches};

/// Where one batch is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Memory(Bytes),
    /// Its position in the file.
    File(u64),
}

/// A partition's storage.
#[derive(Debug)]
pub(super) enum Storage {
    Memory,
    File { file: File, path: PathBuf, end: u64 },
}

impl Storage {
    /// Opens `path`, cuts what follows the last whole batch, and hands each batch to `found`.
    pub(super) fn open(path: &Path, mut found: impl FnMut(Bytes, Place)) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        let mut end = 0;
        let mut reader = BufReader::with_capacity(READ_BYTES, &file);
        while let Some(batch) = read_batch(&mut reader, length - end)? {
            let size = batch.len() as u64;
            found(batch, Place::File(end));
            end += size;
        }
        if end < length {
            tracing::warn!(
                path = %path.display(), torn_bytes = length - end, "cut what a crash left behind the last whole batch"
            );
            file.set_len(end)?;
        }
        Ok(Self::File { file, path: path.to_owned(), end })
    }

    /// Appends `batch`; when that fails, nothing of it stays.
    pub(super) fn append(&mut self, batch: &Bytes) -> io::Result<Place> {
        match self {
            Self::Memory => Ok(Place::Memory(batch.clone())),
            Self::File { file, end, .. } => {
                let position = *end;
                if let Err(error) = file.write_all_at(batch, position) {
                    file.set_len(position)?;
                    return Err(error);
                }
                *end += batch.len() as u64;
                Ok(Place::File(position))
            }
        }
    }

    /// Reads `size` bytes at `place`: one batch, or in a file several that lie side by side.
    pub(super) fn read(&self, place: &Place, size: usize) -> io::Result<Bytes> {
        match (self, place) {
            (Self::File { file, .. }, Place::File(position)) => {
                let mut bytes = BytesMut::zeroed(size);
                file.read_exact_at(&mut bytes, *position)?;
                Ok(bytes.freeze())
            }
            (_, Place::Memory(bytes)) => Ok(bytes.slice(..size.min(bytes.len()))),
            (Self::Memory, Place::File(_)) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Forgets all from `place` on.
    pub(super) fn truncate(&mut self, place: &Place) -> io::Result<()> {
        if let (Self::File { file, end, .. }, Place::File(position)) = (self, place) {
            file.set_len(*position)?;
            *end = *position;
        }
        Ok(())
    }

    /// Puts other batches in the place of all: all of them or, when that fails, none.
    pub(super) fn rewrite(&mut self, batches: &[Bytes]) -> io::Result<Vec<Place>> {
        let Self::File { file, path, end } = self else {
            return Ok(batches.iter().cloned().map(Place::Memory).collect());
        };
        let fresh = path.with_extension("new");
        let rewritten = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        let (mut places, mut position) = (Vec::with_capacity(batches.len()), 0);
        for batch in batches {
            rewritten.write_all_at(batch, position)?;
            places.push(Place::File(position));
            position += batch.len() as u64;
        }
        rewritten.sync_data()?;
        std::fs::rename(&fresh, &path)?;
        (*file, *end) = (rewritten, position);
        Ok(places)
    }

    /// Makes what was appended survive a power loss.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Memory => Ok(()),
            Self::File { file, .. } => file.sync_data(),
        }
    }
}

/// Bytes read at once when a log is opened.
const READ_BYTES: usize = 1 << 20;

/// The next batch of `file`, of which `left` bytes are left; `None` at the end or at a torn batch.
fn read_batch(file: &mut impl Read, left: u64) -> io::Result<Option<Bytes>> {
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let size = u64::from(length) + 12;
    if size < HEADER_BYTES as u64 || size > left {
        return Ok(None);
    }
    let mut batch = BytesMut::zeroed(size as usize);
    batch[..HEADER_BYTES].copy_from_slice(&header);
    file.read_exact(&mut batch[HEADER_BYTES..])?;
    let whole = Header::parse(&batch).is_ok() && checksum_matches(&batch);
    Ok(whole.then(|| batch.freeze()))
}
