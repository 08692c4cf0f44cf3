//! `nslab image pull`.

use crate::cli::Result;
use crate::report::progress::ImageProgress;

/// Arguments of `nslab image pull`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As `nginx:1.27`, `quay.io/name/image@sha256:...` or `localhost:5000/image`
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Print the image as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let mut shown = ImageProgress::new();
    let image = super::store()?.pull(&args.image, &mut |event| shown.event(event))?;
    drop(shown);
    super::ready(&image, args.json)
}
