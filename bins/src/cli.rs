//! The command line: one file per subcommand.

mod acl;
mod admin;
mod broker;
mod cluster;
mod common;
mod completions;
mod config;
mod consume;
mod control;
mod datetime;
mod demo;
mod group;
mod perf;
mod produce;
mod quota;
mod run;
mod topic;
mod transactional_message_copier;
mod txn;
mod user;
mod verifiable;
mod verifiable_consumer;
mod verifiable_producer;
mod verifiable_share_consumer;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

use self::common::Result;

const FIRST_STEPS: &str = "\
First steps:
  tidewater demo                                  see it work
  tidewater broker                                a broker at 127.0.0.1:9092, where all commands look for one
  tidewater topic create orders -p 3
  echo 'ann:7.50' | tidewater produce orders -K :
  tidewater consume orders -e -K :

A cluster elsewhere is --bootstrap HOST:PORT, or what a kafka.properties file says: --config FILE.";

/// Kafka client and exactly-once stream processor in one file.
///
/// Exit codes: 0 done, 1 the request or job failed, 2 usage or configuration.
#[derive(Parser)]
#[command(name = "tidewater", version, after_help = FIRST_STEPS)]
struct Cli {
    /// Log more to stderr: -v information, -vv debugging, -vvv everything. RUST_LOG says it in detail
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 100)]
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
    /// List, create, describe, grow and delete topics.
    Topic(topic::Options),
    /// Groups: how far they are, their members, and where they go on.
    Group(group::Options),
    /// Show and change configurations of topics, brokers and groups.
    Config(config::Options),
    /// Who may do what: list, add and remove entries.
    Acl(acl::Options),
    /// How much users, client ids and addresses may use.
    Quota(quota::Options),
    /// Users with a SCRAM password.
    User(user::Options),
    /// Brokers, controllers, features, folders, elections and moves of partitions.
    Cluster(cluster::Options),
    /// Transactions, and those that hang.
    Txn(txn::Options),
    /// Write the lines of standard input, or of files, as records.
    Produce(produce::Options),
    /// Read records and print them.
    Consume(consume::Options),
    /// Copy a topic's records in transactions and tell how far it is, by the contract of Kafka's own tests.
    TransactionalMessageCopier(transactional_message_copier::Options),
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
    /// Print what a shell needs to complete this program's command line.
    Completions(completions::Options),
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
        Command::Group(options) => group::run(options),
        Command::Config(options) => config::run(options),
        Command::Acl(options) => acl::run(options),
        Command::Quota(options) => quota::run(options),
        Command::User(options) => user::run(options),
        Command::Cluster(options) => cluster::run(options),
        Command::Txn(options) => txn::run(options),
        Command::Produce(options) => produce::run(options),
        Command::Consume(options) => consume::run(options),
        Command::TransactionalMessageCopier(options) => transactional_message_copier::run(options),
        Command::VerifiableConsumer(options) => verifiable_consumer::run(options),
        Command::VerifiableProducer(options) => verifiable_producer::run(options),
        Command::VerifiableShareConsumer(options) => verifiable_share_consumer::run(options),
        Command::Perf { command } => Ok(perf::run(&command)?),
        Command::Completions(options) => completions::run::<Cli>(&options),
    }
}
