//! `tidewater user`: users with a SCRAM password.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use kafka_wire::admin::{ScramChange, ScramMechanism};
use kafka_wire::config::Secret;
use serde::Serialize;

use super::admin::Common;
use super::common::{Failure, Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show which users have which passwords.
    List {
        /// Only these
        #[arg(value_name = "USER")]
        users: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Set a user's password. It is read from a file or standard input, so that no list of processes shows it.
    Set {
        /// The user
        user: String,
        /// SCRAM-SHA-256 or SCRAM-SHA-512
        #[arg(long, short, default_value = "SCRAM-SHA-512")]
        mechanism: ScramMechanism,
        /// How often the password is hashed; brokers take 4096 to 16384
        #[arg(long, short, default_value_t = 4096)]
        iterations: u32,
        /// The file whose first line is the password [default: standard input]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a user's password.
    Delete {
        /// The user
        user: String,
        /// SCRAM-SHA-256 or SCRAM-SHA-512
        #[arg(long, short, default_value = "SCRAM-SHA-512")]
        mechanism: ScramMechanism,
        #[command(flatten)]
        common: Common,
    },
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { users, common } => list(&common, users).await,
            Verb::Set { user, mechanism, iterations, password_file, common } => {
                let password = read_password(password_file.as_ref())?;
                let change = ScramChange::Upsert { user, mechanism, iterations, password };
                let changed = common.admin()?.alter_user_scram_credentials([change]).await?;
                common.report("password of", "set", &changed, None)
            }
            Verb::Delete { user, mechanism, common } => {
                let change = ScramChange::Delete { user, mechanism };
                let changed = common.admin()?.alter_user_scram_credentials([change]).await?;
                common.report("password of", "deleted", &changed, None)
            }
        }
    })
}

/// The first line.
fn read_password(file: Option<&PathBuf>) -> Result<Secret> {
    let mut text = String::new();
    match file {
        Some(path) => {
            text = std::fs::read_to_string(path)
                .map_err(|error| Failure::failed(format_args!("read {}: {error}", path.display())))?;
        }
        None => {
            std::io::stdin().read_to_string(&mut text)?;
        }
    }
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::from(line)),
        _ => Err(Failure::usage("set a password: the first line of the input is empty")),
    }
}

async fn list(common: &Common, users: Vec<String>) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        user: String,
        mechanism: String,
        iterations: u32,
    }
    let mut lines = Vec::new();
    for (user, credentials) in common.admin()?.describe_user_scram_credentials(users).await? {
        let line = |credential: kafka_wire::admin::ScramCredentialInfo| Line {
            user: user.clone(),
            mechanism: credential.mechanism.to_string(),
            iterations: credential.iterations,
        };
        lines.extend(credentials?.into_iter().map(line));
    }
    lines.sort_by(|a, b| (&a.user, &a.mechanism).cmp(&(&b.user, &b.mechanism)));
    common.table(&["USER", "MECHANISM", "ITERATIONS"], &lines, |line| {
        vec![line.user.clone(), line.mechanism.clone(), line.iterations.to_string()]
    })
}
