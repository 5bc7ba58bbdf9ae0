//! Clients that others wrote, as witnesses: Kafka's own, franz-go, kafkajs and kcat (librdkafka). Their
//! programs lie in `foreign/` and all know the commands that `foreign/go/main.go` lists; kcat has no program,
//! its `consume` and `group` are translated.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::real_kafka::{self, Version};

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who wrote the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Kafka's own client, in Java.
    Java,
    /// franz-go.
    Go,
    /// kafkajs.
    Node,
    /// librdkafka, by kcat. It knows `consume` and `group`, and [`Program::feed`].
    Kcat,
}

/// A client's program, ready to be run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Whose it is.
    pub maker: Maker,
    command: Vec<String>,
}

/// The programs that can be run here. What is missing is said aloud; with `CI=true` that is a failure.
///
/// # Panics
/// When a program cannot be built, or with `CI=true` when a tool is missing.
pub fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let found = [
            (Maker::Java, &["java", "mvn"][..]),
            (Maker::Go, &["go"]),
            (Maker::Node, &["node", "npm"]),
            (Maker::Kcat, &["kcat"]),
        ]
        .into_iter()
        .filter(|(maker, tools)| {
            let missing: Vec<&str> = tools.iter().copied().filter(|tool| !is_there(tool)).collect();
            let text = format!("SKIPPED: the {maker:?} client needs {}", missing.join(" and "));
            assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "{text}; CI must run it");
            if !missing.is_empty() {
                eprintln!("{text}");
            }
            missing.is_empty()
        });
        found.map(|(maker, _)| Program { maker, command: build(maker) }).collect()
    })
}

/// The program of one maker, where it can be run.
pub fn program(maker: Maker) -> Option<&'static Program> {
    programs().iter().find(|program| program.maker == maker)
}

fn is_there(tool: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output()
        .is_ok_and(|it| it.status.success())
}

fn build(maker: Maker) -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
    let built = real_kafka::build_folder().join("foreign").join(format!("{maker:?}").to_lowercase());
    std::fs::create_dir_all(&built).expect("a folder for what is built");
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    match maker {
        Maker::Java => {
            let class_path = format!("{}/*", real_kafka::jars(Version::V4_3).display());
            let source = path(sources.join("java/Foreign.java"));
            run_to_build(Command::new("javac").args([
                "-cp",
                &class_path,
                "-d",
                &path(built.clone()),
                &source,
            ]));
            let class_path = format!("{}:{class_path}", built.display());
            ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Foreign"]
                .map(str::to_owned)
                .to_vec()
        }
        Maker::Go => {
            let program = path(built.join("foreign"));
            run_to_build(
                Command::new("go").args(["build", "-o", &program, "."]).current_dir(sources.join("go")),
            );
            vec![program]
        }
        Maker::Node => {
            for file in ["main.js", "package.json", "package-lock.json"] {
                std::fs::copy(sources.join("node").join(file), built.join(file)).expect("copy the program");
            }
            let install = ["ci", "--no-audit", "--no-fund", "--silent"];
            run_to_build(Command::new("npm").args(install).current_dir(&built));
            vec!["node".to_owned(), path(built.join("main.js"))]
        }
        Maker::Kcat => vec!["kcat".to_owned()],
    }
}

fn run_to_build(command: &mut Command) {
    let output = command.output().expect("run a compiler");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

impl Program {
    /// Whether it knows a command.
    pub fn knows(&self, command: &str) -> bool {
        self.maker != Maker::Kcat || matches!(command, "consume" | "group")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // A test that dies leaves nothing behind for long.
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).args(&self.command);
        match (self.maker, arguments) {
            (Maker::Kcat, ["consume", bootstrap, topic, count]) => {
                command.args([
                    "-b",
                    bootstrap,
                    "-C",
                    "-t",
                    topic,
                    "-c",
                    count,
                    "-o",
                    "beginning",
                    "-J",
                    "-q",
                ]);
                command.args(["-X", "isolation.level=read_committed"]);
            }
            (Maker::Kcat, ["group", bootstrap, group, topic]) => {
                command.args(["-b", bootstrap, "-G", group, topic, "-J", "-u", "-q"]);
                command.args(["-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=100"]);
                command.args(["-X", "auto.commit.interval.ms=100"]);
            }
            _ => {
                command.args(arguments);
            }
        }
        command
    }

    /// Runs a command to its end: what it printed, a value a line.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("run a client");
        assert!(output.status.success(), "{:?} {arguments:?}: {}", self.maker, said(&output));
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.lines().filter_map(|line| self.value(line)).collect()
    }

    /// Starts a command that goes on until it is told to finish.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = streams.spawn().expect("start a client");
        let (lines, printed) = channel();
        let (out, program) = (child.stdout.take().expect("its output"), self.clone());
        std::thread::spawn(move || {
            for value in BufReader::new(out).lines().map_while(Result::ok).filter_map(|it| program.value(&it))
            {
                if lines.send(value).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Running { maker: self.maker, child, input, printed }
    }

    /// Lets kcat write lines of `KEY|VALUE`.
    ///
    /// # Panics
    /// When it fails.
    pub fn feed(&self, bootstrap: &str, topic: &str, codec: &str, lines: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lines");
        std::fs::write(&file, lines).expect("write the lines");
        let mut command = Command::new(&self.command[0]);
        command.args(["-b", bootstrap, "-P", "-t", topic, "-K", "|", "-z", codec, "-l"]).arg(&file);
        let output = command.output().expect("run kcat");
        assert!(output.status.success(), "{}", said(&output));
    }

    /// What a line says, in the form of all programs.
    fn value(&self, line: &str) -> Option<Value> {
        let value: Value = serde_json::from_str(line).ok()?;
        if self.maker != Maker::Kcat {
            return Some(value);
        }
        let headers = value["headers"].as_array().map_or(&[][..], Vec::as_slice);
        let headers: Vec<Value> = headers.chunks(2).map(|pair| json!(pair)).collect();
        Some(json!({
            "partition": value["partition"], "offset": value["offset"], "timestamp": value["ts"],
            "key": value["key"], "value": value["payload"], "headers": headers,
        }))
    }
}

/// A client that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    maker: Maker,
    child: Child,
    input: Option<ChildStdin>,
    printed: Receiver<Value>,
}

impl Running {
    /// The next value that it prints, if it does within `patience`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn next(&self, patience: Duration) -> Option<Value> {
        match self.printed.recv_timeout(patience) {
            Ok(value) => Some(value),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the {:?} client has ended", self.maker),
        }
    }

    /// Takes values until one that `is_it` says is it. `timeout` ends a program that goes on with others.
    ///
    /// # Panics
    /// When none comes.
    pub fn until(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) {
        let mut seen = Vec::new();
        while let Some(value) = self.next(PATIENCE) {
            if is_it(&value) {
                return;
            }
            seen.push(value);
        }
        panic!("the {:?} client: waited in vain for {what}; it said {seen:?}", self.maker);
    }

    /// Ends it in good order, and waits until it has ended.
    pub fn finish(mut self) {
        drop(self.input.take());
        if self.maker == Maker::Kcat {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        }
        let status = self.child.wait().expect("wait for the client");
        assert!(status.success() || self.maker == Maker::Kcat, "the {:?} client: {status}", self.maker);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        if matches!(self.child.try_wait(), Ok(None)) {
            // `timeout` hands the signal on.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}
