//! `nslab image build | pull | list | rm`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::image::{Error, Image, ImageInfo, Store};
use crate::report::progress::ImageProgress;

/// Build, pull, list and remove images.
#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

/// What `nslab image` does.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build a recipe and unpack it into the store
    Build {
        /// Folder with an image.toml (images/tomcat), or the name of a built-in recipe (tomcat)
        #[arg(value_name = "DIR")]
        recipe: PathBuf,
        /// Build also if nothing changed, with the current versions of the packages
        #[arg(long)]
        force: bool,
        /// Also write the OCI image layout to this folder, which must not exist
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Print the image as JSON
        #[arg(long)]
        json: bool,
    },
    /// Pull an image from a registry, also if the store has it: its tag may mean another one now
    Pull {
        /// As `nginx:1.27`, `quay.io/name/image@sha256:...` or `localhost:5000/image`
        #[arg(value_name = "IMAGE")]
        image: String,
        /// Print the image as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the images in the store
    #[command(visible_alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an image, with the layers that no other image has
    #[command(visible_alias = "remove")]
    Rm {
        /// Its name or digest, as `list` prints it
        name: String,
    },
}

/// An image as `build --json` prints it.
#[derive(Serialize)]
struct Built<'a> {
    name: &'a str,
    digest: &'a str,
    layers: &'a [PathBuf],
    config: &'a crate::image::RunConfig,
}

/// Runs the command in the default store.
pub fn run(args: &ImageArgs) -> Result<(), Error> {
    let store = Store::open(&Store::default_root())?;
    match &args.command {
        ImageCommand::Build {
            recipe,
            force,
            output,
            json,
        } => {
            let mut shown = ImageProgress::new();
            let image = store.build(recipe, *force, &mut |event| shown.event(event))?;
            drop(shown);
            if let Some(output) = output {
                store.export(&image, output)?;
            }
            print(&if *json {
                built_json(&image)
            } else {
                built_line(&image)
            })
        }
        ImageCommand::Pull { image, json } => {
            let mut shown = ImageProgress::new();
            let image = store.pull(image, &mut |event| shown.event(event))?;
            drop(shown);
            print(&if *json {
                built_json(&image)
            } else {
                built_line(&image)
            })
        }
        ImageCommand::List { json } => {
            let list = store.list()?;
            print(&if *json { pretty(&list) } else { table(&list) })
        }
        ImageCommand::Rm { name } => {
            let lines = store.remove(name)?.iter().map(removed).collect::<String>();
            print(&lines)
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // `nslab image list | head -1`
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| Error::Io {
            doing: "write to",
            path: Path::new("standard output").to_owned(),
            source,
        }),
    }
}

fn pretty(value: &impl Serialize) -> String {
    // These types have no map with keys other than text, which is all that can fail.
    serde_json::to_string_pretty(value)
        .map(|s| s + "\n")
        .unwrap_or_default()
}

fn built_json(image: &Image) -> String {
    pretty(&Built {
        name: &image.reference,
        digest: &image.digest,
        layers: &image.layers,
        config: &image.config,
    })
}

fn built_line(image: &Image) -> String {
    format!("{} {}\n", image.reference, image.digest)
}

fn removed(image: &ImageInfo) -> String {
    format!("removed {} {}\n", image.name, image.digest)
}

fn table(list: &[ImageInfo]) -> String {
    if list.is_empty() {
        return "no images; `nslab image build images/tomcat` builds one\n".into();
    }
    let width = list
        .iter()
        .map(|i| i.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:width$}  {:6}  {:>10}  {:>10}  DIGEST\n",
        "NAME", "KIND", "SIZE", "UNPACKED"
    );
    for image in list {
        let _ = writeln!(
            text,
            "{:width$}  {:6}  {:>10}  {:>10}  {}",
            image.name,
            image.kind,
            HumanBytes(image.size).to_string(),
            HumanBytes(image.unpacked).to_string(),
            image.digest,
        );
    }
    text
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
    fn the_table() {
        assert_eq!(
            table(&[]),
            "no images; `nslab image build images/tomcat` builds one\n"
        );
        let image = ImageInfo {
            name: "tomcat".into(),
            digest: format!("sha256:{}", "0".repeat(64)),
            kind: "recipe".into(),
            size: 40 << 20,
            unpacked: 79 << 20,
            created: 0,
            layout: "/x".into(),
        };
        let want = format!(
            "NAME    KIND          SIZE    UNPACKED  DIGEST\n\
             tomcat  recipe   40.00 MiB   79.00 MiB  sha256:{}\n",
            "0".repeat(64)
        );
        assert_eq!(table(&[image]), want);
    }

    #[test]
    fn the_arguments() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|c| c.image.command);
        assert!(matches!(
            parse("image build images/tomcat --force -o out --json"),
            Ok(ImageCommand::Build {
                force: true,
                output: Some(_),
                json: true,
                ..
            })
        ));
        assert!(matches!(
            parse("image list"),
            Ok(ImageCommand::List { json: false })
        ));
        assert!(matches!(
            parse("image rm tomcat"),
            Ok(ImageCommand::Rm { .. })
        ));
        assert!(parse("image build").is_err());
    }
}
