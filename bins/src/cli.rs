//! The command line: one file per subcommand.

mod broker;
mod common;
mod consume;
mod control;
mod demo;
mod perf;
mod produce;
mod run;
mod topic;
mod verifiable;
mod verifiable_consumer;
mod verifiable_producer;
mod verifiable_share_consumer;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

use self::common::Result;

/// Kafka client and exactly-once stream processor in one file.
///
/// Exit codes: 0 done, 1 the request or job failed, 2 usage or configuration.
#[derive(Parser)]
#[command(name = "tidewater", version)]
struct Cli {
    /// Log more to stderr: -v information, -vv debugging, -vvv everything. RUST_LOG says it in detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// See it work: a broker, a million clicks and an exactly-once job on them, all in this process.
    Demo(demo::Options),
    /// Run a Kafka broker in this process: for development and tests, with any Kafka client.
    Broker(broker::Options),
    /// Run one of the jobs that come with this program; the same command line resumes it after a crash.
    Run(run::Options),
    /// List the jobs that run on this machine.
    Jobs(control::JobsOptions),
    /// Show a running job's figures.
    Status(control::JobOptions),
    /// End a running job: it commits what it has read, and goes on from there when it is run again.
    Stop(control::JobOptions),
    /// List, create, describe and delete topics.
    Topic(topic::Options),
    /// Write the lines of standard input, or of files, as records.
    Produce(produce::Options),
    /// Read records and print them.
    Consume(consume::Options),
    /// Read as a member of a group and tell what happens, by the contract of Kafka's own tests.
    VerifiableConsumer(verifiable_consumer::Options),
    /// Write numbers and tell the fate of each: Kafka's own contract for a producer under test.
    VerifiableProducer(verifiable_producer::Options),
    /// Read as a member of a share group and tell what becomes of it: Kafka's own contract for a share consumer under
    /// test.
    VerifiableShareConsumer(verifiable_share_consumer::Options),
    /// Measure the client against a broker; prints one line of JSON.
    Perf {
        #[command(subcommand)]
        command: perf::Command,
    },
}

/// Runs the command line of this process. 0 done, 1 failed, 2 usage or configuration.
pub(super) fn run() -> ExitCode {
    let mut cli = Cli::parse();
    if let Command::VerifiableConsumer(options) = &mut cli.command {
        options.is_verbose = cli.verbose > 0;
    }
    // A service says where it starts and what it meets.
    let default = if matches!(cli.command, Command::Run(_)) { "warn,dataflow=info" } else { "warn" };
    common::log_to_stderr(default, cli.verbose);
    common::exit_code(dispatch(cli.command))
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Broker(options) => broker::run(options),
        Command::Run(options) => run::run(options),
        Command::Jobs(options) => control::jobs(&options),
        Command::Status(options) => control::status(&options),
        Command::Stop(options) => control::stop(&options),
        Command::Topic(options) => topic::run(options),
        Command::Produce(options) => produce::run(options),
        Command::Consume(options) => consume::run(options),
        Command::VerifiableConsumer(options) => verifiable_consumer::run(options),
        Command::VerifiableProducer(options) => verifiable_producer::run(options),
        Command::VerifiableShareConsumer(options) => verifiable_share_consumer::run(options),
        Command::Perf { command } => Ok(perf::run(&command)?),
    }
}
