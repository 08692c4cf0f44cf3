//! The `nslab` command: parse, run, print the error, exit with its code.

fn main() -> std::process::ExitCode {
    // A node's init is this same binary under another name: it must not reach clap or a runtime.
    nslab::node::reexec();
    nslab::cli::main()
}
