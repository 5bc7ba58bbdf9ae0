//! Java programs against Kafka's own client: independent writers, readers and authors of bytes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::real_kafka::build_folder;

/// Runs the single-file program `source` with the jars of `libs` on its class path and returns what it
/// printed. It is compiled once, before its first run.
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

/// Compiles the single-file program `source` into `folder`, with the jars of `libs` on the class path.
///
/// # Panics
/// When it does not compile; the compiler's words are shown.
pub fn compile(libs: &Path, source: &Path, folder: &Path) {
    let output = Command::new("javac")
        .args(["-nowarn", "-cp"])
        .arg(format!("{}/*", libs.display()))
        .arg("-d")
        .arg(folder)
        .arg(source)
        .output()
        .expect("run javac");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn output(libs: &Path, source: &Path, arguments: &[&str]) -> Output {
    command(libs, source, arguments).output().expect("run java")
}

fn command(libs: &Path, source: &Path, arguments: &[&str]) -> Command {
    let class = source.file_stem().expect("a file's name");
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}:{}/*", compiled(libs, source).display(), libs.display()));
    command.arg(class).args(arguments);
    command
}

/// The folder with the classes of `source`, compiled for `libs` where its text has not been before.
fn compiled(libs: &Path, source: &Path) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hasher = DefaultHasher::new();
    (libs, source, std::fs::read(source).expect("a program")).hash(&mut hasher);
    let folder = build_folder().join("java").join(format!("{:016x}", hasher.finish()));
    if !folder.join("complete").exists() {
        std::fs::create_dir_all(&folder).expect("a folder for classes");
        compile(libs, source, &folder);
        std::fs::write(folder.join("complete"), "").expect("mark the classes complete");
    }
    folder
}

/// A program of ours that runs beside the test; it is to end when its standard input does.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Running {
    /// Starts it, as [`run`] does, and gives each line that it prints to `hear`, on a thread of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(
        libs: &Path,
        source: &Path,
        arguments: &[&str],
        mut hear: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        let mut child = command(libs, source, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run java");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("its output"));
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|l| hear(&l))
        });
        Self { child, stdin }
    }

    /// Ends its standard input, and waits until it has ended.
    ///
    /// # Panics
    /// When it fails.
    pub fn end(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("wait for java");
        assert!(status.success(), "a Java program failed: {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
