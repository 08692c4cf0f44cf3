//! The `nslab` command: parse, run, print the error, exit with its code.

fn main() -> std::process::ExitCode {
    nslab::cli::main()
}
