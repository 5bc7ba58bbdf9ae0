//! A Python with Confluent's packages: librdkafka as it is now, and the serializers of their schema registry.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::real_kafka::{build_folder, text};

const CONFLUENT: &str = "confluent-kafka[avro,json,protobuf]==2.16.0";

/// The interpreter; its environment is made on first use.
///
/// # Panics
/// When it cannot be made.
pub(crate) fn python() -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = build_folder().join("python");
    let done = folder.join("complete");
    let python = folder.join("bin/python");
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "-q", "install", CONFLUENT]));
        std::fs::write(done, "").expect("mark Python complete");
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}
