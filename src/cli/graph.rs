//! `nslab graph`.

use std::path::PathBuf;

use super::{Result, lab_file, output};
use crate::picture::{self, Scene};

/// Arguments of `nslab graph`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The lab file
    #[arg(value_name = "LAB.toml")]
    file: PathBuf,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A flowchart for Markdown: GitHub and GitLab draw it
    Mermaid,
    /// For Graphviz: dot -Tpng
    Dot,
    /// A picture for browsers and documents, light and dark
    Svg,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let file = lab_file::read(&args.file, false)?;
    let scene = Scene::of(&file.lab);
    let text = match args.format {
        Format::Mermaid => picture::mermaid(&scene),
        Format::Dot => picture::dot(&scene),
        Format::Svg => picture::svg(&scene),
    };
    match &args.output {
        Some(path) => output::write(path, &text),
        None => super::print(&text),
    }
}
