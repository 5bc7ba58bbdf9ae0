//! The program, built when a test needs it: what lies in the build folder may be older than the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary `tidewater`, of the same profile as this test.
///
/// # Panics
/// When it does not build.
pub fn tidewater() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        build("tidewater");
        profile_folder().join("tidewater")
    })
}

/// Where this test binary was built: TARGET/PROFILE/deps/BINARY.
fn profile_folder() -> PathBuf {
    let binary = std::env::current_exe().expect("path of the test binary");
    binary.ancestors().nth(2).expect("a test binary lies two levels below the profile's folder").to_path_buf()
}

fn build(binary: &str) {
    let profile = profile_folder();
    let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile's name");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Of the whole workspace and with a test: so the features, and the libraries, are those of the command
    // `cargo test --workspace`, and nothing is built twice.
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--profile", if name == "debug" { "dev" } else { name }])
        .args(["--bin", binary, "--test", "kills", "--target-dir"])
        .arg(profile.parent().expect("the build folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "build {binary}: {status:?}");
}
