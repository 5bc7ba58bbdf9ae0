//! What all commands share: how a cluster is reached, where output goes, and how a command ends.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataflow::ConfigBuilder;
use kafka_wire::config::{ClientConfig, Properties};
use kafka_wire::{Admin, ErrorCode, ErrorKind, TopicDescription};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A result of a command.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command failed, and what the process answers for it.
#[derive(Debug)]
pub(super) struct Failure {
    exit: u8,
    pub(super) text: String,
}

impl Failure {
    /// What was asked for failed: exit code 1.
    pub(super) fn failed(text: impl fmt::Display) -> Self {
        Self { exit: 1, text: text.to_string() }
    }

    /// What was asked for makes no sense: exit code 2.
    pub(super) fn usage(text: impl fmt::Display) -> Self {
        Self { exit: 2, text: text.to_string() }
    }

    /// Whether whoever read the output has gone, as `head` does: no failure of ours.
    fn is_broken_pipe(&self) -> bool {
        self.exit == 0
    }
}

impl From<kafka_wire::Error> for Failure {
    fn from(error: kafka_wire::Error) -> Self {
        let is_callers = matches!(error.kind(), ErrorKind::Config | ErrorKind::Usage);
        if is_callers { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<dataflow::Error> for Failure {
    fn from(error: dataflow::Error) -> Self {
        let is_callers = matches!(error.kind(), dataflow::ErrorKind::Config | dataflow::ErrorKind::Usage);
        if is_callers { Self::usage(error) } else { Self::failed(error) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 };
        Self { exit, text: error.to_string() }
    }
}

/// The exit code of a command; says on stderr why it failed.
pub(super) fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Err(failure) if !failure.is_broken_pipe() => {
            say(format_args!("error: {}", failure.text));
            ExitCode::from(failure.exit)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Tells the person something, on stderr: standard output is for data.
pub(super) fn say(text: impl fmt::Display) {
    // When stderr is gone, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Logs go to stderr, never among the data; by `default` those of this filter.
pub(super) fn log_to_stderr(default: &str, verbose: u8) {
    let default = [default, "info", "debug"].get(usize::from(verbose)).copied().unwrap_or("trace");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(io::stderr).init();
}

/// How to reach the cluster. A flag wins over --set, that over the environment (TIDEWATER_BOOTSTRAP_SERVERS
/// is bootstrap.servers), that over the file.
#[derive(Args, Clone, Debug)]
pub(super) struct Connection {
    /// Brokers to start from, as host:port,host:port (bootstrap.servers) [default: 127.0.0.1:9092]
    #[arg(long, short, alias = "bootstrap-server", value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// A kafka.properties file, as Kafka's own tools take it
    #[arg(long, short, alias = "command-config", short_alias = 'F', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any property by Kafka's name; may be repeated
    #[arg(long, alias = "command-property", short_alias = 'X', value_name = "NAME=VALUE")]
    set: Vec<String>,
}

/// Where `tidewater broker` listens.
pub(super) const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";

/// A person waits for the answer of a command: less patience than a service has.
const PATIENCE: &[(&str, &str)] = &[("default.api.timeout.ms", "10000"), ("max.block.ms", "10000")];

impl Connection {
    /// All that was said, with `flags` (property name and value) of the command's own; `defaults` are what
    /// holds where nothing was said.
    pub(super) fn configure(
        &self,
        defaults: &[(&str, &str)],
        flags: &[(&str, Option<String>)],
    ) -> Result<ConfigBuilder> {
        let mut builder = ConfigBuilder::new().set("bootstrap.servers", DEFAULT_BOOTSTRAP)?;
        for (name, value) in defaults {
            builder = builder.set(name, value)?;
        }
        if let Some(file) = &self.config {
            builder = builder.file(file)?;
        }
        builder =
            builder
                .environment(std::env::vars_os().filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                }))?;
        for entry in &self.set {
            builder = builder.entry(entry)?;
        }
        let bootstrap = [("bootstrap.servers", self.bootstrap.clone())];
        for (name, value) in bootstrap.iter().chain(flags) {
            if let Some(value) = value {
                builder = builder.set(name, value)?;
            }
        }
        Ok(builder)
    }

    /// kcat counts records by -c, which is the file here.
    pub(super) fn check_is_no_count(&self, done: &str) -> Result<()> {
        match self.config.as_deref().and_then(|file| Some((file, file.to_str()?.parse::<u64>().ok()?))) {
            Some((file, count)) if !file.exists() => Err(Failure::usage(format_args!(
                "-c is --config here, and there is no file {count}: -n {count} means that {count} records are {done}"
            ))),
            _ => Ok(()),
        }
    }

    /// As [`Self::configure`], for a command that a person waits for.
    pub(super) fn properties(
        &self,
        defaults: &[(&str, &str)],
        flags: &[(&str, Option<String>)],
    ) -> Result<Properties> {
        Ok(self.configure(&[PATIENCE, defaults].concat(), flags)?.build()?.kafka)
    }
}

/// The topic as the cluster has it now; asked before anything is read or written, because the clients
/// themselves wait for a topic to appear.
pub(super) async fn describe_topic(properties: &Properties, topic: &str) -> Result<TopicDescription> {
    let admin = Admin::new(ClientConfig::from_properties(properties)?)?;
    describe_topic_with(&admin, topic).await
}

/// As [`describe_topic`], with a client that there is already.
pub(super) async fn describe_topic_with(admin: &Admin, topic: &str) -> Result<TopicDescription> {
    let described = admin.describe_topics([topic]).await?.into_iter().next();
    let Some((_, described)) = described else {
        return Err(Failure::failed(format_args!("describe topic {topic}: no broker answered for it")));
    };
    described.map_err(|error| match error.code() {
        Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => error
            .with_hint(format!(
                "`tidewater topic create {topic}` creates it, `tidewater topic list` shows all"
            ))
            .into(),
        _ => error.into(),
    })
}

/// Runs a command's own async code; the clients have threads of their own.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // A read of standard input cannot be cancelled, and must not keep the process.
    runtime.shutdown_background();
    result
}

/// Comes when the process is asked to end: Ctrl-C or SIGTERM. A second Ctrl-C ends it at once.
pub(super) struct Stop(tokio::sync::watch::Receiver<bool>);

impl Stop {
    /// From now on signals no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self> {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        #[allow(clippy::disallowed_methods, reason = "it ends with the process, which nothing waits for")]
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => if *sender.borrow() { std::process::exit(130) },
                }
                // Who no longer listens needs no telling.
                let _ = sender.send(true);
            }
        });
        Ok(Self(receiver))
    }

    /// Waits until the process is asked to end.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    pub(super) async fn wait(&mut self) {
        // An error means that the task is gone, and with it the runtime.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
