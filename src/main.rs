//! Arguments in, exit code out. Nothing else lives here.

use std::process::ExitCode;

fn main() -> ExitCode {
    efs_agent::commands::run(std::env::args_os().skip(1))
}
