//! `nslab image build`.

use std::path::PathBuf;

use crate::cli::Result;
use crate::report::progress::ImageProgress;

/// Arguments of `nslab image build`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder with an image.toml (images/tomcat), or the name of a built-in one: tomcat, thredds, nginx, net-tools
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
}

pub(super) fn run(args: &Args) -> Result<()> {
    let store = super::store()?;
    let mut shown = ImageProgress::new();
    let image = store.build(&args.recipe, args.force, &mut |event| shown.event(event))?;
    drop(shown);
    if let Some(output) = &args.output {
        store.export(&image, output)?;
    }
    super::ready(&image, args.json)
}
