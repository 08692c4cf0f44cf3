//! `cargo run --example hostile-layers DIR` writes the layers that mean harm, for other tools to be
//! tried on: docs/hostile-layers.md.

#[path = "../tests/layer/hostile/mod.rs"]
mod hostile;
#[path = "../tests/layer/tarball.rs"]
mod tarball;

use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        return Err("usage: hostile-layers DIR".into());
    };
    fs::create_dir_all(&dir)?;
    let dir = Path::new(&dir).canonicalize()?;
    let canary = dir.join("canary");
    fs::create_dir_all(&canary)?;
    fs::write(canary.join("file"), "alive")?;
    let canary = canary.to_str().ok_or("the folder's name is no UTF-8")?;
    let mut index = Vec::new();
    for case in hostile::all(canary) {
        fs::write(dir.join(case.name).with_extension("tar"), &case.tar)?;
        index.push(serde_json::json!({
            "name": case.name,
            "tries": case.tries,
            "refused": case.refused,
            "leaves": case.leaves,
        }));
    }
    fs::write(
        dir.join("index.json"),
        serde_json::to_string_pretty(&index)?,
    )?;
    println!("{} layers in {}", index.len(), dir.display());
    Ok(())
}
