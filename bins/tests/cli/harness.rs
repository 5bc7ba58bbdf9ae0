//! Runs the binary against an embedded broker.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tidewater_broker::{EmbeddedBroker, Options};

/// What a run of the binary came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Standard output of a run that was to succeed.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The one line on stderr of a run that was to fail with `code`.
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        let error = self.stderr.lines().find_map(|line| line.strip_prefix("error: "));
        error.unwrap_or_else(|| panic!("no error is told: {self:?}")).to_owned()
    }
}

/// The binary, with a clean environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with("TIDEWATER_") || name == "RUST_LOG");
        if is_ours {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs the binary to its end; `input` is its standard input.
pub(crate) fn run(arguments: &[&str], input: &str) -> Run {
    run_command(command(arguments), input)
}

/// As [`run`], with an environment of its own.
pub(crate) fn run_command(mut command: Command, input: &str) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A process that fails early does not read all of it.
    let feed = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Run { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// An embedded broker, and the binary run against it.
pub(crate) struct Cluster {
    pub(crate) bootstrap: String,
    _broker: EmbeddedBroker,
}

impl Cluster {
    pub(crate) fn with_topics(topics: &[(&str, i32)]) -> Self {
        let options = Options { auto_create_topics: false, ..Options::default() };
        Self::start(topics.iter().fold(options, |options, (name, count)| options.with_topic(*name, *count)))
    }

    pub(crate) fn start(options: Options) -> Self {
        let broker = EmbeddedBroker::start(options).unwrap();
        let bootstrap = broker.bootstrap();
        Self { bootstrap, _broker: broker }
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Run {
        run(&[arguments, &["--bootstrap", &self.bootstrap]].concat(), input)
    }

    /// Standard output of a run that was to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments, "").ok()
    }

    /// What a topic holds, sorted, in a format.
    pub(crate) fn read(&self, topic: &str, format: &str) -> Vec<String> {
        let printed = self.ok(&["consume", topic, "--exit", "-f", &format!("{format}\\n")]);
        let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}
