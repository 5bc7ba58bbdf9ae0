//! Java programs against Kafka's own client: independent writers, readers and authors of bytes.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the single-file program `source` with the jars of `libs` on its class path and returns what it
/// printed.
///
/// # Panics
/// When it fails; its output is shown.
pub fn run(libs: &Path, source: &Path, arguments: &[&str]) -> String {
    let output = output(libs, source, arguments);
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}\n{}{}",
        source.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn output(libs: &Path, source: &Path, arguments: &[&str]) -> Output {
    Command::new("java")
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", libs.display()))
        .arg(source)
        .args(arguments)
        .output()
        .expect("run java")
}
