//! `tidewater broker`: the embedded broker as a process of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use tidewater_broker::{
    AuthorizerOptions, EmbeddedBroker, Options as BrokerOptions, SaslOptions, TlsOptions,
};

use super::common::{Failure, Result, Stop, block_on};

/// How it is started.
#[derive(Args)]
pub(super) struct Options {
    /// Where to listen; node n takes the port plus n, port 0 takes any free one.
    #[arg(long, value_name = "HOST:PORT", default_value = super::common::DEFAULT_BOOTSTRAP)]
    listen: String,
    /// How many nodes the cluster has. They share one log: nothing is replicated.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Keep the data in this folder, to go on from there; by default it is in memory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Speak TLS with this certificate, followed by those that signed it (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Ask clients for a certificate that is signed by one of these (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_client_authorities: Option<PathBuf>,
    /// Let clients log in (SASL PLAIN, SCRAM) as one of the users in this file, with a line NAME:PASSWORD for each.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Who may do everything, while all others may do what access control lists allow; may be repeated.
    #[arg(long, value_name = "USER")]
    super_user: Vec<String>,
    /// A topic to create where it does not exist; may be repeated.
    #[arg(long, value_name = "NAME:PARTITIONS", value_parser = topic)]
    topic: Vec<(String, i32)>,
}

fn topic(text: &str) -> Result<(String, i32), String> {
    let (name, partitions) = text.rsplit_once(':').unwrap_or((text, "1"));
    match partitions.parse() {
        Ok(partitions) if partitions > 0 && !name.is_empty() => Ok((name.to_owned(), partitions)),
        _ => Err("expected NAME:PARTITIONS, such as orders:4".to_owned()),
    }
}

/// Serves until it is asked to end.
pub(super) fn run(options: Options) -> Result<()> {
    let mut settings =
        BrokerOptions { nodes: options.nodes, listen: options.listen.clone(), ..Default::default() };
    settings.data.clone_from(&options.data);
    for (name, partitions) in &options.topic {
        settings = settings.with_topic(name, *partitions);
    }
    settings.tls = tls(&options)?;
    settings.sasl = options.users.as_deref().map(users).transpose()?;
    if !options.super_user.is_empty() {
        let super_users = options.super_user.iter().map(|user| format!("User:{user}")).collect();
        settings.authorizer = Some(AuthorizerOptions { super_users, ..Default::default() });
    }
    block_on(async {
        let mut stop = Stop::listen()?;
        let broker = EmbeddedBroker::start(settings)
            .map_err(|error| Failure::failed(format_args!("start the broker: {error}")))?;
        announce(&broker, options.data.as_deref());
        stop.wait().await;
        broker.stop();
        Ok(())
    })
}

fn tls(options: &Options) -> Result<Option<TlsOptions>> {
    let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_key) else {
        return Ok(None);
    };
    let tls = TlsOptions::from_files(certificate, key).map_err(Failure::usage)?;
    match &options.tls_client_authorities {
        Some(authorities) => tls.with_client_authorities(authorities).map(Some).map_err(Failure::usage),
        None => Ok(Some(tls)),
    }
}

fn users(file: &Path) -> Result<SaslOptions> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format_args!("read the users in {name}: {error}")))?;
    let mut sasl = SaslOptions::default();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let user = line.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty());
        // The line is not shown: it may hold a password.
        let (user, password) = user
            .ok_or_else(|| Failure::usage(format_args!("{name}, line {number}: expected NAME:PASSWORD")))?;
        sasl = sasl.with_user(user, password);
    }
    Ok(sasl)
}

/// The first line is for programs; the rest is what to do next.
fn announce(broker: &EmbeddedBroker, data: Option<&Path>) {
    let bootstrap = broker.bootstrap();
    let kept = match data {
        Some(folder) => format!("in {}", folder.display()),
        None => "in memory: it is gone when this ends (--data DIR keeps it)".to_owned(),
    };
    let text = format!(
        "bootstrap.servers={bootstrap}\n\n\
         A Kafka broker for any client. Data is {kept}. Ctrl-C ends it. In another terminal:\n  \
         tidewater topic create greetings --partitions 4 --bootstrap {bootstrap}\n  \
         echo hello | tidewater produce greetings --bootstrap {bootstrap}\n  \
         tidewater consume greetings --bootstrap {bootstrap}\n"
    );
    // Who has read enough of this still wants the broker.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
