//! The `nslab` command: parse, run, print the error, exit with its code.

fn main() -> std::process::ExitCode {
    // Node inits and supervisors are this same binary under another name: an init must not reach
    // clap or a runtime.
    nslab::node::reexec();
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == nslab::supervisor::SUPERVISOR)
    {
        return nslab::supervisor::supervise();
    }
    nslab::cli::main()
}
