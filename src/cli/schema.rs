//! `nslab schema`.

use super::Result;
use crate::spec::SCHEMA;

/// Arguments of `nslab schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Editors with a TOML language server (Even Better TOML, taplo) take it from a lab file's first line:
nslab schema > lab.schema.json
#:schema ./lab.schema.json")]
pub(super) struct Args {}

/// Prints the JSON schema of lab files.
pub(super) fn run(_: &Args) -> Result<()> {
    super::print(SCHEMA)
}
