//! `nslab completions`.

use super::Result;

/// Arguments of `nslab completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
bash: nslab completions bash | sudo tee /etc/bash_completion.d/nslab
zsh:  nslab completions zsh | sudo tee /usr/local/share/zsh/site-functions/_nslab
fish: nslab completions fish > ~/.config/fish/completions/nslab.fish")]
pub(super) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completions of the command line `C`.
pub(super) fn run<C: clap::CommandFactory>(args: &Args) -> Result<()> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Not straight to standard output: the generator panics where a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), "nslab", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
