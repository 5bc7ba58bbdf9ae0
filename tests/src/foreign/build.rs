//! How the programs in `foreign/` are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Maker;
use crate::python::python;
use crate::real_kafka::{self, Version, text};

/// The tools that a maker's program needs.
pub(super) fn tools(maker: Maker) -> &'static [&'static str] {
    match maker {
        Maker::Java => &["java", "mvn"],
        Maker::Go => &["go"],
        Maker::Node => &["node", "npm"],
        Maker::Python => &["python3"],
        Maker::Kcat => &["kcat"],
    }
}

/// Builds a maker's program: the command that starts it.
pub(super) fn build(maker: Maker) -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
    let built = real_kafka::build_folder().join("foreign").join(format!("{maker:?}").to_lowercase());
    std::fs::create_dir_all(&built).expect("a folder for what is built");
    match maker {
        Maker::Java => java(&sources.join("java/Foreign.java"), &built),
        Maker::Go => {
            let program = path(&built.join("foreign"));
            run(Command::new("go").args(["build", "-o", &program, "."]).current_dir(sources.join("go")));
            vec![program]
        }
        Maker::Node => node(&sources.join("node"), &built),
        Maker::Python => vec![path(&python()), path(&sources.join("python/clients.py"))],
        Maker::Kcat => vec!["kcat".to_owned()],
    }
}

fn java(source: &Path, built: &Path) -> Vec<String> {
    let jars = format!("{}/*", real_kafka::jars(Version::V4_3).display());
    run(Command::new("javac").args(["-nowarn", "-cp", &jars, "-d"]).arg(built).arg(source));
    let class_path = format!("{}:{jars}", built.display());
    ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Foreign"].map(str::to_owned).to_vec()
}

fn node(sources: &Path, built: &Path) -> Vec<String> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let is_installed = read(built.join("complete")) == read(sources.join("package-lock.json"));
    for file in ["main.js", "package.json", "package-lock.json"] {
        std::fs::copy(sources.join(file), built.join(file)).expect("copy the program");
    }
    if !is_installed {
        let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        run(Command::new("npm").args(install).current_dir(built));
        std::fs::copy(built.join("package-lock.json"), built.join("complete")).expect("mark it complete");
    }
    vec!["node".to_owned(), path(&built.join("main.js"))]
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}
