//! The local folder of one job's state: private, and used by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A folder that this process holds until it is dropped (or the process ends, however).
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Folder {
    /// Creates the folder if need be (mode 0700: state is the job's data), and takes its lock.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let failed = |what: &str, error: io::Error| {
            Error::new(ErrorKind::Storage, format!("{what} state folder {}", path.display()))
                .with_cause(error)
                .with_hint("give --state a folder that this user may create and write")
        };
        create_private(&path).map_err(|error| failed("create", error))?;
        let lock = lock(&path)?;
        remove_unfinished(&path).map_err(|error| failed("clean", error))?;
        Ok(Self { path, _lock: lock })
    }
}

/// The folders it creates are synced into their parents: state that is durable must also be found.
fn create_private(path: &Path) -> io::Result<()> {
    let path = &std::path::absolute(path)?;
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    create(path)?;
    #[cfg(unix)]
    for created in path.ancestors().take_while(|ancestor| Some(*ancestor) != existing) {
        File::open(created.parent().unwrap_or(created))?.sync_all()?;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        builder.mode(0o700).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    builder.create(path)
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK_FILE);
    let attempted = || format!("lock state folder {}", folder.display());
    let failed = |error: io::Error| Error::new(ErrorKind::Storage, attempted()).with_cause(error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            let holder = format!("process {}\n", std::process::id());
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(holder.as_bytes()))
                .map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The name is a help only: the lock holds without it.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            Err(Error::new(ErrorKind::Refused, format!("{}: it is in use by {holder}", attempted()))
                .with_hint(
                    "stop that one first; to run both, give one of them another --group or another --state",
                ))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Removes what a crash left half written: staging files (`NAME#1`) are under a name that no reader takes.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for instance in fs::read_dir(folder)? {
        let instance = instance?;
        if !instance.file_type()?.is_dir() {
            continue;
        }
        for object in fs::read_dir(instance.path())? {
            let object = object?;
            if object.file_name().to_string_lossy().contains('#') {
                fs::remove_file(object.path())?;
            }
        }
    }
    Ok(())
}

/// Its content names the process that holds the lock.
pub(super) const LOCK_FILE: &str = "lock";
