//! Kafka's own jar as the judge of the protocol layer: its message specifications and its bytes.
//!
//! What the jar authored is checked in; with Java and Maven present the tests also check that it is what
//! the jar authors today. To renew it (a new Kafka, another shape of the tables):
//! `TIDEWATER_REGENERATE=1 cargo test -p tidewater-tests --test vectors`.

mod answers;
mod assignments;
mod batches;
mod group_bytes;
mod hot;
mod messages;
mod shapes;

use std::fs;
use std::path::{Path, PathBuf};

/// Compares the file `path` of this repository with what was `authored`, or writes it when asked to.
fn assert_current(path: &str, authored: &str) {
    let path = repository().join(path);
    if std::env::var_os("TIDEWATER_REGENERATE").is_some() {
        fs::write(&path, authored).expect("write the generated file");
        return;
    }
    let checked_in = fs::read_to_string(&path).expect("read the generated file");
    let line = checked_in.lines().zip(authored.lines()).position(|(ours, theirs)| ours != theirs);
    assert!(
        checked_in == authored,
        "{} is not what Kafka's jar says, from line {:?} on; renew it with TIDEWATER_REGENERATE=1",
        path.display(),
        line.map(|line| line + 1)
    );
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}
