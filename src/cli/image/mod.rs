//! `nslab image` and its subcommands, one file each.

mod build;
mod export;
mod inspect;
mod list;
mod prune;
mod pull;
mod rm;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Result;
use crate::image::{Error, Image, Store};

/// Build, pull, list, inspect and remove images.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a recipe and unpack it into the store
    Build(build::Args),
    /// Pull an image from a registry, also if the store has it: its tag may mean another one now
    Pull(pull::Args),
    /// Write an image as an OCI runtime bundle, which runc and crun run
    Export(export::Args),
    /// List the images in the store
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show what an image runs, its layers, and what it shares with others
    Inspect(inspect::Args),
    /// Remove an image, with the layers that no other image has
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Remove what no lab uses and no image needs, and what killed processes left
    Prune(prune::Args),
}

pub(super) fn run(args: &ImageArgs) -> Result<()> {
    match &args.command {
        Command::Build(args) => build::run(args),
        Command::Pull(args) => pull::run(args),
        Command::Export(args) => export::run(args),
        Command::List(args) => list::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Rm(args) => rm::run(args),
        Command::Prune(args) => prune::run(args),
    }
}

/// The store that commands work in.
fn store() -> Result<Store, Error> {
    Store::open(&Store::default_root())
}

/// An image as `build --json` and `pull --json` print it.
#[derive(Serialize)]
struct Ready<'a> {
    name: &'a str,
    digest: &'a str,
    layers: &'a [std::path::PathBuf],
    config: &'a crate::image::RunConfig,
}

/// Prints an image that was built or pulled.
fn ready(image: &Image, json: bool) -> Result<()> {
    if json {
        return super::print_json(&Ready {
            name: &image.reference,
            digest: &image.digest,
            layers: &image.layers,
            config: &image.config,
        });
    }
    super::print(&format!("{} {}\n", image.reference, image.digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        image: ImageArgs,
    }

    #[test]
    fn the_arguments() {
        let parse = |line: &str| {
            let args = Cli::try_parse_from(line.split(' ')).map_err(|e| e.kind())?;
            Ok::<_, clap::error::ErrorKind>(format!("{:?}", args.image.command))
        };
        assert_eq!(
            parse("image build images/tomcat --force -o out --json").unwrap(),
            "Build(Args { recipe: \"images/tomcat\", force: true, output: Some(\"out\"), json: true })"
        );
        assert_eq!(parse("image list").unwrap(), "List(Args { json: false })");
        assert_eq!(parse("image ls"), parse("image list"));
        assert_eq!(
            parse("image rm tomcat").unwrap(),
            "Rm(Args { name: \"tomcat\" })"
        );
        assert_eq!(
            parse("image export tomcat out --user 7:8 -- sh -c x").unwrap(),
            "Export(Args { image: \"tomcat\", dir: \"out\", user: Some(\"7:8\"), json: false, \
             cmd: [\"sh\", \"-c\", \"x\"] })"
        );
        assert!(parse("image export tomcat").is_err());
        assert!(parse("image build").is_err());
    }
}
