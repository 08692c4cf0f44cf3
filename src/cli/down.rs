//! `nslab down`.

use super::{Failure, Result};
use crate::report::Reporter;
use crate::supervisor::{Client, Error, Event, down_without_supervisor, find_lab};

/// Arguments of `nslab down`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The lab's name, or its lab file; may be left out while only one lab is up
    #[arg(value_name = "LAB")]
    lab: Option<String>,
    /// Kill a supervisor that does not answer
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    super::need_root("down")?;
    let name = args.lab.as_deref().map(name_of).transpose()?;
    let dir = find_lab(name.as_deref())?;
    let mut reporter = Reporter::new(args.json);
    let asked = if args.force {
        Err(Error::SupervisorDied {
            lab: dir.lab().to_owned(),
        })
    } else {
        Client::connect(&dir).and_then(|mut c| c.down(|event| reporter.event(event)))
    };
    let errors = match asked {
        Err(Error::SupervisorDied { .. }) => {
            let errors = down_without_supervisor(&dir, args.force)?;
            reporter.event(&Event::Down {
                lab: dir.lab().to_owned(),
                errors: errors.clone(),
            });
            errors
        }
        other => other?,
    };
    reporter.finish();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::silent(1))
    }
}

/// `down labs/dsr.toml` is what the shell's history offers after `up labs/dsr.toml`.
pub(super) fn name_of(argument: &str) -> Result<String> {
    if std::path::Path::new(argument)
        .extension()
        .is_some_and(|e| e == "toml")
    {
        let file = super::lab_file::read(argument.as_ref(), false)?;
        return Ok(file.lab.name().to_string());
    }
    Ok(argument.to_owned())
}
