//! State objects in a store: put once, read with every check, deleted by name.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::folder::{Folder, LOCK_FILE};
use super::object::ObjectRef;
use crate::error::{Error, ErrorKind, Result};

/// Where one job's state objects are. Cheap to clone; the folder stays locked until the last clone is dropped.
///
/// An object's bytes: magic `TIDESTAT`, format version (u16), payload length (u64), CRC-32C of the payload
/// (u32), little-endian, then the payload.
#[derive(Clone)]
pub struct StateStore {
    objects: Arc<dyn ObjectStore>,
    /// For messages: the folder, or `memory:`.
    location: Arc<str>,
    /// Keeps the folder locked.
    _folder: Option<Arc<Folder>>,
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateStore({})", self.location)
    }
}

impl StateStore {
    /// Opens the store of `job` at `url`: a folder (a path or `file://…`), where the job gets a folder of its own, or
    /// `memory:`, which is gone with the last clone (for tests, and for jobs that may start anew).
    ///
    /// Files are synced, with their folders, before a put returns. The folder has mode 0700 and is locked.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another scheme, [`ErrorKind::Refused`] when another process has the
    /// folder (it is named), [`ErrorKind::Storage`] when the folder cannot be made or written.
    pub fn open(url: &str, job: &str) -> Result<Self> {
        if url == "memory:" {
            return Ok(Self::memory());
        }
        let path = match url.split_once(':') {
            None => url,
            Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
            Some((scheme, _)) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("open state store \"{url}\": no store has the scheme \"{scheme}:\""),
                )
                .with_hint("use a folder's path, or memory: for state that may be lost"));
            }
        };
        let folder = Folder::open(PathBuf::from(path).join(file_name(job)))?;
        let failed = |error| {
            Error::new(ErrorKind::Storage, format!("open state folder {}", folder.path.display()))
                .with_cause(error)
        };
        let objects = LocalFileSystem::new_with_prefix(&folder.path).map_err(failed)?.with_fsync(true);
        Ok(Self {
            objects: Arc::new(objects),
            location: folder.path.to_string_lossy().into(),
            _folder: Some(Arc::new(folder)),
        })
    }

    /// A store in memory.
    pub fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), location: "memory:".into(), _folder: None }
    }

    /// Writes an operator's snapshot of one epoch on one worker, durably. Not retried here: after a failed sync nothing
    /// that was written can be trusted, so the epoch is void and the job goes on from its manifest.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the object may be there or not; no manifest names it, so it is collected later.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`], with path and bytes; [`ErrorKind::Refused`] when the object exists already.
    pub async fn put(
        &self,
        instance: &str,
        epoch: u64,
        worker: usize,
        uid: &str,
        payload: &[u8],
    ) -> Result<ObjectRef> {
        let path = format!("{}/{epoch:010}-{worker}-{}", file_name(instance), file_name(uid));
        let crc32c = crc32c::crc32c(payload);
        let object = seal(payload, crc32c);
        let length = object.len() as u64;
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&Path::from(path.as_str()), PutPayload::from(object), options).await {
            Ok(_) => Ok(ObjectRef { path, length, crc32c }),
            Err(error) => Err(self.put_error(&path, length, error)),
        }
    }

    /// Reads an object and checks all that its reference and its header say. Returns the payload.
    ///
    /// # Errors
    /// [`ErrorKind::CorruptState`] when it is missing or not what was written, with what was expected and
    /// found; [`ErrorKind::Refused`] for a newer format; [`ErrorKind::Storage`] when the store fails.
    pub async fn read(&self, reference: &ObjectRef) -> Result<Bytes> {
        let path = &reference.path;
        let found = async { self.objects.get(&Path::from(path.as_str())).await?.bytes().await }.await;
        match found {
            Ok(object) => unseal(object, reference).map_err(|fault| fault.into_error(&self.name(path))),
            Err(object_store::Error::NotFound { .. }) => {
                Err(Fault::Damaged("it is not there".into()).into_error(&self.name(path)))
            }
            Err(error) => Err(Error::new(
                ErrorKind::Storage,
                format!("read state object {} ({} bytes)", self.name(path), reference.length),
            )
            .with_cause(error)
            .with_retriable(true)),
        }
    }

    /// The paths of all objects of the job, whoever wrote them.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] when the store cannot be listed.
    pub async fn list(&self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        let mut folders = vec![None];
        while let Some(folder) = folders.pop() {
            let listed = self.objects.list_with_delimiter(folder.as_ref()).await.map_err(|error| {
                Error::new(ErrorKind::Storage, format!("list the state objects in {}", self.location))
                    .with_cause(error)
                    .with_retriable(true)
            })?;
            paths.extend(listed.objects.into_iter().map(|object| object.location.to_string()));
            folders.extend(listed.common_prefixes.into_iter().map(Some));
        }
        paths.retain(|path| path != LOCK_FILE);
        Ok(paths)
    }

    /// Deletes objects that [`super::Collector`] has named. One that is gone already is no error.
    ///
    /// # Errors
    /// The first [`ErrorKind::Storage`] error; the others are tried all the same. The job need not stop
    /// for it: what is left is listed and collected after its next start.
    pub async fn delete(&self, paths: &[String]) -> Result<()> {
        let mut first = Ok(());
        for path in paths {
            match self.objects.delete(&Path::from(path.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    first = first.and(Err(Error::new(
                        ErrorKind::Storage,
                        format!("delete state object {}", self.name(path)),
                    )
                    .with_cause(error)));
                }
            }
        }
        first
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.location)
    }

    fn put_error(&self, path: &str, length: u64, error: object_store::Error) -> Error {
        let path = self.name(path);
        if matches!(error, object_store::Error::AlreadyExists { .. }) {
            return Error::new(ErrorKind::Refused, format!("write state object {path}: it exists already"))
                .with_hint("two processes run as the same instance of the job: stop one");
        }
        let hint = match io_kind(&error) {
            Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                "make room on that disk, or move the state with --state; the job goes on from its last checkpoint"
            }
            Some(std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) => {
                "let this user write there, or give --state another folder"
            }
            _ => {
                "this checkpoint is void, the job goes on from the last one; check the disk's health if it repeats"
            }
        };
        Error::new(ErrorKind::Storage, format!("write state object {path} ({length} bytes needed)"))
            .with_cause(error)
            .with_hint(hint)
            .with_retriable(true)
    }
}

/// The operating system's verdict behind an error, where there is one.
fn io_kind(error: &object_store::Error) -> Option<std::io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// A name as one part of a path: what is neither letter, digit, `_`, `-` nor a dot inside is `=` and two hex digits.
fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' => safe.push(char::from(byte)),
            b'.' if index > 0 => safe.push('.'),
            _ => safe.push_str(&format!("={byte:02x}")),
        }
    }
    if safe.is_empty() { "=".to_owned() } else { safe }
}

fn seal(payload: &[u8], crc32c: u32) -> Bytes {
    let mut object = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    object.put_slice(MAGIC);
    object.put_u16_le(FORMAT_VERSION);
    object.put_u64_le(payload.len() as u64);
    object.put_u32_le(crc32c);
    object.put_slice(payload);
    object.freeze()
}

fn unseal(object: Bytes, reference: &ObjectRef) -> Result<Bytes, Fault> {
    let damaged = |what: &str, expected: u64, found: u64| {
        Err(Fault::Damaged(format!("its {what} is {found} where {expected} was written")))
    };
    if object.len() as u64 != reference.length {
        return damaged("length", reference.length, object.len() as u64);
    }
    let Some((header, _)) = object.split_first_chunk::<HEADER_BYTES>() else {
        return damaged("length", HEADER_BYTES as u64, object.len() as u64);
    };
    let [magic @ .., v0, v1, l0, l1, l2, l3, l4, l5, l6, l7, c0, c1, c2, c3] = *header;
    if magic != *MAGIC {
        return Err(Fault::Damaged("it does not begin as a state object does".into()));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != FORMAT_VERSION {
        return Err(Fault::OtherFormat(version));
    }
    let payload_bytes = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    let payload = object.slice(HEADER_BYTES..);
    if payload_bytes != payload.len() as u64 {
        return damaged("payload length", payload_bytes, payload.len() as u64);
    }
    let computed = crc32c::crc32c(&payload);
    for written in [u32::from_le_bytes([c0, c1, c2, c3]), reference.crc32c] {
        if written != computed {
            return damaged("CRC-32C", written.into(), computed.into());
        }
    }
    Ok(payload)
}

/// What is wrong with an object.
enum Fault {
    Damaged(String),
    OtherFormat(u16),
}

impl Fault {
    fn into_error(self, path: &str) -> Error {
        match self {
            Self::Damaged(found) => {
                Error::new(ErrorKind::CorruptState, format!("read state object {path}: {found}")).with_hint(
                    "nothing of it was used; restore the file from a backup, or start anew with --fresh",
                )
            }
            Self::OtherFormat(version) => Error::new(
                ErrorKind::Refused,
                format!("read state object {path}: it has format version {version}, this program reads {FORMAT_VERSION}"),
            )
            .with_hint("run the version of the program that wrote it, or a later one"),
        }
    }
}

const MAGIC: &[u8; 8] = b"TIDESTAT";
const FORMAT_VERSION: u16 = 1;
const HEADER_BYTES: usize = MAGIC.len() + size_of::<u16>() + size_of::<u64>() + size_of::<u32>();

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Outside an async runtime the stores do their work in the first poll.
    fn run<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the store waits for something"),
        }
    }

    fn local() -> (tempfile::TempDir, StateStore) {
        let root = tempfile::tempdir().unwrap();
        let store = StateStore::open(root.path().join("state").to_str().unwrap(), "clicks").unwrap();
        (root, store)
    }

    #[test]
    fn what_is_put_is_read_listed_and_deleted() {
        let (_root, local) = local();
        for store in [local, StateStore::memory()] {
            let first = run(store.put("i1", 7, 0, "window", b"payload")).unwrap();
            let second = run(store.put("i1", 8, 1, "a/b", &[])).unwrap();
            assert_eq!(first.path, "i1/0000000007-0-window");
            assert_eq!(second.path, "i1/0000000008-1-a=2fb");
            assert_eq!(&run(store.read(&first)).unwrap()[..], b"payload");
            assert_eq!(run(store.read(&second)).unwrap().len(), 0);
            let mut listed = run(store.list()).unwrap();
            listed.sort();
            assert_eq!(listed, [first.path.clone(), second.path.clone()]);
            run(store.delete(&[first.path.clone(), "i0/gone".into()])).unwrap();
            assert_eq!(run(store.list()).unwrap(), [second.path]);
            let error = run(store.read(&first)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptState);
            assert!(error.to_string().contains("i1/0000000007-0-window: it is not there"), "{error}");
        }
    }

    #[test]
    fn an_object_is_written_once() {
        let (_root, store) = local();
        let written = run(store.put("i1", 7, 0, "window", b"first")).unwrap();
        let error = run(store.put("i1", 7, 0, "window", b"second")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(&run(store.read(&written)).unwrap()[..], b"first");
    }

    #[test]
    fn every_cut_flip_and_swap_is_noticed_and_named() {
        let (_root, store) = local();
        let written = run(store.put("i1", 7, 0, "window", b"some state, not much")).unwrap();
        let other = run(store.put("i1", 8, 0, "window", b"some state, 20 bytes")).unwrap();
        let file = format!("{}/{}", store.location, written.path);
        let bytes = std::fs::read(&file).unwrap();
        let expect_damage = |bytes: &[u8], what: &str| {
            std::fs::write(&file, bytes).unwrap();
            let error = run(store.read(&written)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::CorruptState | ErrorKind::Refused), "{what}: {error}");
            assert!(error.to_string().contains(&file) && error.hint().is_some(), "{what}: {error}");
        };
        for length in 0..bytes.len() {
            expect_damage(&bytes[..length], "cut");
            let mut zeros = bytes[..length].to_vec();
            zeros.resize(bytes.len(), 0);
            expect_damage(&zeros, "zero tail");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[length] ^= 1 << bit;
                expect_damage(&flipped, "flip");
            }
        }
        expect_damage(&[&bytes[..], b"x"].concat(), "longer");
        expect_damage(&std::fs::read(format!("{}/{}", store.location, other.path)).unwrap(), "swapped");
        std::fs::write(&file, &bytes).unwrap();
        assert!(run(store.read(&written)).is_ok());
    }

    #[test]
    fn a_folder_is_private_and_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let url = format!("file://{}", root.path().display());
        let store = StateStore::open(&url, "orders/eu").unwrap();
        let folder = root.path().join("orders=2feu");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
        let error = StateStore::open(&url, "orders/eu").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let holder = format!("{}: it is in use by process {}", folder.display(), std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
        StateStore::open(&url, "orders").unwrap();
        let clone = store.clone();
        drop(store);
        assert!(StateStore::open(&url, "orders/eu").is_err());
        drop(clone);
        StateStore::open(&url, "orders/eu").unwrap();
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed() {
        let (root, store) = local();
        let written = run(store.put("i1", 7, 0, "window", b"state")).unwrap();
        drop(store);
        let staged = root.path().join("state/clicks/i1/0000000008-0-window#1");
        std::fs::write(&staged, b"half").unwrap();
        let store = StateStore::open(root.path().join("state").to_str().unwrap(), "clicks").unwrap();
        assert!(!staged.exists());
        assert_eq!(&run(store.read(&written)).unwrap()[..], b"state");
    }

    #[test]
    fn a_full_disk_is_reported_with_path_bytes_and_what_to_do() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(full) };
        let error = StateStore::memory().put_error("i1/7-0-window", 1234, error);
        assert_eq!(error.kind(), ErrorKind::Storage);
        let text = error.to_string();
        assert!(
            text.contains("memory:/i1/7-0-window (1234 bytes needed)") && text.contains("make room"),
            "{text}"
        );
        assert!(error.is_retriable());
    }

    #[test]
    fn other_urls_and_unusable_folders_are_errors() {
        let error = StateStore::open("s3://bucket/x", "job").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("\"s3:\""), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateStore::open(file.path().to_str().unwrap(), "job").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
}
