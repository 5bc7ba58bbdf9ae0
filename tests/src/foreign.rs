//! Clients that others wrote, as witnesses: Kafka's own, franz-go, kafkajs and librdkafka (by Confluent's client for
//! Python, and by kcat). Their programs lie in `foreign/` and all know the commands that `foreign/go/main.go` lists;
//! kcat has no program, its `consume` and `group` are translated.
//!
//! A program runs on and takes one command after the other: to start one anew costs more than what it is asked.

mod build;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::real_kafka::text;

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
    /// librdkafka, by Confluent's client for Python.
    Python,
    /// librdkafka, by kcat. It knows `consume` and `group`, and [`Program::feed`].
    Kcat,
}

/// A client's program, ready to be run.
#[derive(Debug)]
pub struct Program {
    /// Whose it is.
    pub maker: Maker,
    command: Vec<String>,
    /// Processes that wait for a command.
    idle: Mutex<Vec<Process>>,
}

/// The programs that can be run here. What is missing is said aloud; with `CI=true` that is a failure.
///
/// # Panics
/// When a program cannot be built, or with `CI=true` when a tool is missing.
pub fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let makers = [Maker::Java, Maker::Go, Maker::Node, Maker::Python, Maker::Kcat];
        let found: Vec<Maker> = makers.into_iter().filter(|maker| can_run(*maker)).collect();
        std::thread::scope(|scope| {
            let builds: Vec<_> = found.iter().map(|maker| scope.spawn(|| build::build(*maker))).collect();
            let built = builds.into_iter().map(|it| it.join().expect("a program that builds"));
            let programs = found.iter().zip(built);
            programs
                .map(|(maker, command)| Program { maker: *maker, command, idle: Mutex::default() })
                .collect()
        })
    })
}

/// The program of one maker, where it can be run.
pub fn program(maker: Maker) -> Option<&'static Program> {
    programs().iter().find(|program| program.maker == maker)
}

fn can_run(maker: Maker) -> bool {
    let is_there = |tool: &&str| {
        Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .is_ok_and(|it| it.status.success())
    };
    let missing: Vec<&str> = build::tools(maker).iter().copied().filter(|tool| !is_there(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    let text = format!("SKIPPED: the {maker:?} client needs {}", missing.join(" and "));
    assert!(std::env::var_os("CI").is_none(), "{text}; CI must run it");
    eprintln!("{text}");
    false
}

impl Program {
    /// Whether it knows a command.
    pub fn knows(&self, command: &str) -> bool {
        self.maker != Maker::Kcat || matches!(command, "consume" | "group")
    }

    /// Runs a command to its end: what it printed, a value a line.
    ///
    /// # Panics
    /// When it fails or hangs.
    pub fn run(&'static self, arguments: &[&str]) -> Vec<Value> {
        self.start(arguments).rest()
    }

    /// Starts a command that goes on until it is told to finish.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&'static self, arguments: &[&str]) -> Running {
        let process = if self.maker == Maker::Kcat {
            Process::start(kcat(&self.command, arguments), kcats_value)
        } else {
            let idle = self.idle().pop();
            let mut process = idle.unwrap_or_else(|| Process::start(command(&self.command), own_value));
            process.say(&arguments.join(" "));
            process
        };
        Running { program: self, what: arguments.join(" "), process: Some(process) }
    }

    /// Lets kcat write lines of `KEY|VALUE`.
    ///
    /// # Panics
    /// When it fails.
    pub fn feed(&self, bootstrap: &str, topic: &str, codec: &str, lines: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lines");
        std::fs::write(&file, lines).expect("write the lines");
        let mut command = command(&self.command);
        command.args(["-b", bootstrap, "-P", "-t", topic, "-K", "|", "-z", codec, "-l"]).arg(&file);
        let output: Output = command.output().expect("run kcat");
        assert!(output.status.success(), "{}", text(&output));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// A command in kcat's words. It does not look at its input, so `timeout` sees to it that it does not stay.
fn kcat(program: &[String], arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).args(program);
    let mut add = |words: &[&str]| {
        command.args(words);
    };
    match arguments {
        ["consume", bootstrap, topic, count] => {
            add(&["-b", bootstrap, "-C", "-t", topic, "-c", count, "-o", "beginning", "-J", "-q"]);
            add(&["-X", "isolation.level=read_committed"]);
        }
        ["group", bootstrap, group, topic, settings @ ..] => {
            add(&["-b", bootstrap, "-G", group, topic, "-J", "-u", "-q"]);
            add(&["-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=100"]);
            add(&["-X", "auto.commit.interval.ms=100"]);
            if let ["classic", assignor] = settings {
                add(&["-X", &format!("partition.assignment.strategy={assignor}")]);
            }
        }
        _ => panic!("kcat knows no {arguments:?}"),
    }
    command
}

fn own_value(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

/// What kcat prints, in the form of all programs.
fn kcats_value(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    let headers = value["headers"].as_array().map_or(&[][..], Vec::as_slice);
    let headers: Vec<Value> = headers.chunks(2).map(|pair| json!(pair)).collect();
    Some(json!({
        "partition": value["partition"], "offset": value["offset"], "timestamp": value["ts"],
        "key": value["key"], "value": value["payload"], "headers": headers,
    }))
}

/// A process that prints values. It goes when its input ends, so when this process does; killed when dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    printed: Receiver<Value>,
    complaints: Arc<Mutex<String>>,
}

impl Process {
    fn start(mut command: Command, value: fn(&str) -> Option<Value>) -> Self {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (out, err) = (child.stdout.take().expect("its output"), child.stderr.take().expect("its errors"));
        let (lines, printed) = channel();
        let complaints = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&complaints);
        std::thread::spawn(move || {
            let listening = std::thread::spawn(move || {
                for line in BufReader::new(err).lines().map_while(Result::ok) {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.push_str(&(line + "\n"));
                }
            });
            let values = BufReader::new(out).lines().map_while(Result::ok).filter_map(|line| value(&line));
            values.take_while(|value| lines.send(value.clone()).is_ok()).for_each(drop);
            // Whoever hears that it has ended finds all that it had to say.
            let _ = listening.join();
        });
        let input = child.stdin.take();
        Self { child, input, printed, complaints }
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an input");
        // One that has ended is noticed by whoever listens to it.
        let _ = writeln!(input, "{line}").and_then(|()| input.flush());
    }

    fn complaints(&self) -> String {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Not SIGKILL: `timeout` would not hand it on.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

/// A command that runs. Its process is killed when this is dropped before its end.
#[derive(Debug)]
pub struct Running {
    program: &'static Program,
    what: String,
    process: Option<Process>,
}

impl Running {
    /// The next value that it prints, if it does within `patience`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn next(&self, patience: Duration) -> Option<Value> {
        let value = self.heard(patience)?;
        assert!(!is_end(&value), "{} has ended", self.name());
        Some(value)
    }

    /// Takes values until one that `is_it` says is it.
    ///
    /// # Panics
    /// When none comes.
    pub fn until(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) {
        let mut seen = Vec::new();
        let end = deadline();
        while let Some(value) = self.next(left(end)) {
            if is_it(&value) {
                return;
            }
            seen.push(value);
        }
        panic!(
            "{}: waited in vain for {what}; it said {seen:?}\n{}",
            self.name(),
            self.process().complaints()
        );
    }

    /// Ends it in good order, and waits until it has ended.
    ///
    /// # Panics
    /// When it fails or does not end.
    pub fn finish(mut self) {
        if self.program.maker == Maker::Kcat {
            return;
        }
        self.process.as_mut().expect("a process").say("stop");
        self.rest();
    }

    /// What it prints until its end; its process is free for the next command then.
    fn rest(mut self) -> Vec<Value> {
        let mut values = Vec::new();
        let end = deadline();
        if self.program.maker == Maker::Kcat {
            let process = self.process.as_mut().expect("a process");
            values.extend(process.printed.iter());
            let status = process.child.wait().expect("wait for kcat");
            assert!(status.success(), "{}: {status}\n{}", self.name(), self.process().complaints());
            return values;
        }
        while let Some(value) = self.heard(left(end)) {
            if is_end(&value) {
                self.program.idle().extend(self.process.take());
                return values;
            }
            values.push(value);
        }
        panic!("{} hangs; it said {values:?}\n{}", self.name(), self.process().complaints());
    }

    fn heard(&self, patience: Duration) -> Option<Value> {
        match self.process().printed.recv_timeout(patience) {
            Ok(value) => Some(value),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                panic!("{} has failed:\n{}", self.name(), self.process().complaints())
            }
        }
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("a command that runs has a process")
    }

    fn name(&self) -> String {
        format!("the {:?} client, {:?},", self.program.maker, self.what)
    }
}

/// When [`PATIENCE`] is over.
#[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

#[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn is_end(value: &Value) -> bool {
    value.get("done").is_some()
}
