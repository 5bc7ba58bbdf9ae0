//! `tidewater completions`: what a shell needs to complete this program's command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::common::Result;

/// For which shell.
#[derive(Args)]
pub(super) struct Options {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

/// Prints the script, as for `source <(tidewater completions bash)`.
pub(super) fn run<C: CommandFactory>(options: &Options) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut C::command(), "tidewater", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout(), &script)?)
}
