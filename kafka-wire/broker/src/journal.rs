//! All but the records, in one file: topics, configuration, offsets, transactions.
//!
//! Each entry is length, CRC32C and a `postcard` body. At a start the file is read up to the first torn
//! entry, and rewritten as the shortest list of entries that says the same; so it is when it has grown.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::groups::CommittedOffset;
use crate::setting::Setting;
use crate::shares::partition::Saved;
use crate::transactions::Transaction;

/// The file is rewritten when it has grown to this, and to four times what it was after the last rewrite.
const REWRITE_BYTES: u64 = 16 << 20;

/// One fact. The variants' order is the file's format: append, never reorder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The cluster's identity, first of all.
    Cluster { seed: u64, cluster_id: String },
    /// A topic was created, the `number`th.
    Topic {
        number: u64,
        name: String,
        id: [u8; 16],
        partitions: i32,
        replication_factor: i16,
        configs: Vec<(String, String)>,
    },
    /// A topic has now so many partitions.
    Partitions { name: String, count: i32 },
    /// All of a topic's configuration.
    Configs { name: String, configs: Vec<(String, String)> },
    /// A topic was deleted.
    Deleted { name: String },
    /// A partition's records begin here.
    LogStart { topic: String, partition: i32, offset: i64 },
    /// A partition is led by this node, in this epoch.
    Leader { topic: String, partition: i32, leader: i32, epoch: i32 },
    /// Offsets that a group committed.
    Offsets { group: String, offsets: Vec<CommittedOffset> },
    /// A group was deleted with its offsets.
    GroupDeleted { group: String },
    /// Producer ids below are used up.
    ProducerIds { next: i64 },
    /// A transactional id as it is now.
    Transaction(Box<Transaction>),
    /// What an administrator set.
    Setting(Box<Setting>),
    /// A group's offset was deleted.
    OffsetDeleted { group: String, topic: String, partition: i32 },
    /// What a share group did with a partition of a topic, by its id.
    Share { group: String, topic: [u8; 16], partition: (i32, Saved) },
    /// It forgot what it did with a topic.
    ShareDeleted { group: String, topic: [u8; 16] },
    /// The members of a group as they are now.
    Members { group: String, members: Vec<u8> },
}

/// The file, or nothing when all is in memory.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    path: PathBuf,
    bytes: u64,
    bytes_at_rewrite: u64,
    unsynced: bool,
}

impl Journal {
    pub(crate) fn in_memory() -> Self {
        Self { file: None, path: PathBuf::new(), bytes: 0, bytes_at_rewrite: 0, unsynced: false }
    }

    /// Reads what `path` holds, up to the first torn entry.
    ///
    /// # Errors
    /// When the file cannot be read. That it is not there is no error: the list is empty then.
    pub(crate) fn read(path: &Path) -> io::Result<Vec<Entry>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        let mut rest = &bytes[..];
        while let Some((entry, behind)) = decode(rest) {
            entries.push(entry);
            rest = behind;
        }
        if !rest.is_empty() {
            tracing::warn!(path = %path.display(), torn_bytes = rest.len(), "cut what a crash left in the journal");
        }
        Ok(entries)
    }

    /// Replaces the file at `path` by one that holds `entries`, and goes on appending to it.
    ///
    /// # Errors
    /// When it cannot be written; the old file stays then.
    pub(crate) fn rewrite(path: &Path, entries: &[Entry]) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        let mut bytes = 0;
        for entry in entries {
            let entry = encode(entry)?;
            file.write_all(&entry)?;
            bytes += entry.len() as u64;
        }
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let path = path.to_owned();
        Ok(Self { file: Some(file), path, bytes, bytes_at_rewrite: bytes, unsynced: false })
    }

    /// Appends one entry.
    ///
    /// # Errors
    /// When it cannot be written: the change must not be acknowledged then.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let entry = encode(entry)?;
        if let Err(error) = file.write_all(&entry) {
            file.set_len(self.bytes)?;
            return Err(io::Error::new(error.kind(), format!("write {}: {error}", self.path.display())));
        }
        self.bytes += entry.len() as u64;
        self.unsynced = true;
        Ok(())
    }

    /// Whether most of the file is history.
    pub(crate) fn is_bloated(&self) -> bool {
        self.bytes >= REWRITE_BYTES && self.bytes >= 4 * self.bytes_at_rewrite
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what was appended since the last call survive a power loss.
    ///
    /// # Errors
    /// When the file system says so.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &self.file {
            Some(file) if self.unsynced => {
                self.unsynced = false;
                file.sync_data()
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.file.is_some()
    }
}

fn encode(entry: &Entry) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(entry).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_and_a_torn_one_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let first = Entry::Cluster { seed: 7, cluster_id: "c".to_owned() };
        let second = Entry::ProducerIds { next: 1000 };
        let mut journal = Journal::rewrite(&path, std::slice::from_ref(&first)).unwrap();
        journal.append(&second).unwrap();
        drop(journal);
        assert_eq!(Journal::read(&path).unwrap(), [first.clone(), second]);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [first]);
    }
}
