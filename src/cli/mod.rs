//! The command line: clap structs, one file a command.

pub mod image;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
