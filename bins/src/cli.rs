//! The command line: one file per subcommand.

mod perf;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kafka client and stream processor.
#[derive(Parser)]
#[command(name = "tidewater", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one of the jobs that come with this program; the same command line resumes it after a crash.
    Run(run::Command),
    /// Measure the client against a broker; prints one line of JSON.
    Perf {
        #[command(subcommand)]
        command: perf::Command,
    },
}

/// Runs the command line of this process. 0 done, 1 failed, 2 usage or configuration.
pub(super) fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(command) => return run::run(&command),
        Command::Perf { command } => perf::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error);
            ExitCode::from(if error.kind() == kafka_wire::ErrorKind::Config { 2 } else { 1 })
        }
    }
}

#[allow(clippy::print_stderr, reason = "where a command says why it failed")]
fn fail(error: &kafka_wire::Error) {
    eprintln!("tidewater: {error}");
}
