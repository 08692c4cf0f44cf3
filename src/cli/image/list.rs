//! `nslab image list`.

use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::cli::{self, Result};
use crate::image::ImageInfo;

/// Arguments of `nslab image list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let list = super::store()?.list()?;
    if args.json {
        return cli::print_json(&list);
    }
    cli::print(&table(&list))
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
}
