//! A real schema registry (Apicurio, from Maven Central) and Confluent's own serializers (in Python).
//!
//! Needs a JDK (17) and Maven, and Python 3 with `venv` for the serializers. Where they are missing,
//! [`available`] says so aloud and the test ends; with `CI=true` it fails instead.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::patience::comes_about;
use crate::process::{Server, free_ports};
use crate::python::python;
use crate::real_kafka::{build_folder, runs, text};

const APICURIO: &str = "2.6.13.Final";

/// Whether a registry and Confluent's serializers can be run here. Says aloud what is missing.
///
/// # Panics
/// With `CI=true` when something is missing.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let needed = [("java", "-version"), ("mvn", "-version"), ("python3", "--version")];
        let missing: Vec<&str> =
            needed.into_iter().filter(|(tool, flag)| !runs(tool, flag)).map(|(tool, _)| tool).collect();
        if missing.is_empty() {
            return true;
        }
        let text = format!("SKIPPED: the suite on a schema registry needs {}", missing.join(" and "));
        assert!(std::env::var_os("CI").is_none(), "{text}; CI must run it");
        eprintln!("{text}");
        false
    })
}

/// A running registry with nothing in it; it dies with this value.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    folder: tempfile::TempDir,
    _server: Server,
}

impl Registry {
    /// Starts a registry, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up in two minutes; its log is shown.
    pub fn start() -> Self {
        let home = unpacked();
        let port = free_ports(1).expect("a free port")[0];
        let folder = tempfile::tempdir().expect("a folder for the registry");
        let jar = home.join(format!("apicurio-registry-app-{APICURIO}-runner.jar"));
        let arguments = [
            "-Xmx384m",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            &format!("-Dquarkus.http.port={port}"),
            "-jar",
            &jar.to_string_lossy(),
        ];
        let server =
            Server::start(folder.path(), "registry", "java", &arguments).expect("start the registry");
        let registry = Self { port, folder, _server: server };
        let up = comes_about(|| registry.answers());
        let log = std::fs::read_to_string(registry.folder.path().join("registry.log")).unwrap_or_default();
        assert!(up, "the registry did not come up:\n{log}");
        registry
    }

    /// Its address, as `schema.registry.url` wants it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let asked = socket.write_all(b"GET /apis/ccompat/v7/subjects HTTP/1.0\r\n\r\n");
        let mut answer = [0; 15];
        asked.and_then(|()| socket.read_exact(&mut answer)).is_ok() && answer.ends_with(b"200 OK")
    }
}

/// The folder with the registry's program; fetched on first use (140 MB).
fn unpacked() -> PathBuf {
    let folder = build_folder().join("registry").join(APICURIO);
    let done = folder.join("complete");
    if !done.exists() {
        std::fs::create_dir_all(&folder).expect("a folder for the registry");
        let artifact = format!("io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all");
        let copy = format!("-Dartifact={artifact}");
        let into = format!("-DoutputDirectory={}", folder.display());
        run(Command::new("mvn").args(["-q", "-B", "dependency:copy", &copy, &into]));
        let archive = folder.join(format!("apicurio-registry-app-{APICURIO}-all.tar.gz"));
        run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&folder));
        std::fs::remove_file(&archive).expect("remove the archive");
        std::fs::write(done, "").expect("mark the registry complete");
    }
    folder
}

/// Runs `tests/foreign/python/schemas.py` with Confluent's serializers, gives it `input`, and returns what it
/// printed.
///
/// # Panics
/// When it fails; its output is shown.
pub fn confluent(arguments: &[&str], input: &str) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/python/schemas.py");
    let mut child = Command::new(python())
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start Python");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("give it its input");
    let output = child.wait_with_output().expect("wait for Python");
    assert!(output.status.success(), "schemas.py {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}
