//! `tidewater run`: a job by name, until it has ended or is asked to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dataflow::config::ConfigBuilder;
use dataflow::{Config, ErrorKind, Outcome, Result, Settings, StartAt};

use crate::jobs;

/// What to run, and how.
#[derive(Args)]
pub(super) struct Command {
    /// The job's name: clicks, pass.
    job: String,
    /// A kafka.properties file.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Sets a property, over file and environment.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Brokers: host:port, several separated by commas.
    #[arg(long)]
    bootstrap: Option<String>,
    /// The topic that is read.
    #[arg(long)]
    input: Option<String>,
    /// The topic that is written.
    #[arg(long)]
    output: Option<String>,
    /// The job's id; by default made from its name, input and output.
    #[arg(long)]
    group: Option<String>,
    /// Where state is kept: a folder, or memory: for state that may be lost.
    #[arg(long)]
    state: Option<String>,
    /// How many workers share the work.
    #[arg(long)]
    parallelism: Option<usize>,
    /// Read to where the input ends at the first start, commit all of it, and end.
    #[arg(long)]
    bounded: bool,
    /// Where the first start begins: earliest, latest, group, or milliseconds since 1970.
    #[arg(long, default_value = "earliest", value_parser = start_at)]
    start: StartAt,
    /// Begin anew, as if the job had never run.
    #[arg(long)]
    fresh: bool,
}

fn start_at(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Earliest),
        "latest" => Ok(StartAt::Latest),
        "group" => Ok(StartAt::Group),
        _ => text
            .parse()
            .map(StartAt::Timestamp)
            .map_err(|_| "use earliest, latest, group, or milliseconds since 1970".to_owned()),
    }
}

impl Command {
    fn config(&self) -> Result<Config> {
        let mut builder = ConfigBuilder::new();
        if let Some(file) = &self.config {
            builder = builder.file(file)?;
        }
        builder = builder.environment(std::env::vars())?;
        for entry in &self.set {
            builder = builder.entry(entry)?;
        }
        let parallelism = self.parallelism.map(|workers| workers.to_string());
        for (name, value) in [
            ("bootstrap.servers", &self.bootstrap),
            ("input.topic", &self.input),
            ("output.topic", &self.output),
            ("group.id", &self.group),
            ("state.url", &self.state),
            ("parallelism", &parallelism),
        ] {
            if let Some(value) = value {
                builder = builder.set(name, value)?;
            }
        }
        builder.build()
    }

    fn execute(&self) -> Result<Outcome> {
        let config = self.config()?;
        let job = jobs::by_name(&self.job, &config)?;
        let settings = Settings {
            bounded: self.bounded,
            start: self.start,
            fresh: self.fresh,
            ..Settings::from(&config)
        };
        job.run(settings)
    }
}

/// Runs the job. 0 done, 1 failed, 2 usage or configuration.
#[allow(clippy::print_stderr, reason = "where a command says how it ended")]
pub(super) fn run(command: &Command) -> ExitCode {
    let level = tracing_subscriber::EnvFilter::try_from_default_env();
    let level = level.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).try_init();
    match command.execute() {
        Ok(Outcome::Finished { epoch }) => {
            eprintln!("finished at epoch {epoch}");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Stopped { epoch }) => {
            eprintln!("stopped at epoch {epoch}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tidewater: {error}");
            ExitCode::from(if error.kind() == ErrorKind::Config { 2 } else { 1 })
        }
    }
}
