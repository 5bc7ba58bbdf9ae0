//! The `tidewater` binary.

mod cli;
mod jobs;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
