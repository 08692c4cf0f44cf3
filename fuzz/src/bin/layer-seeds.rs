//! Writes the fuzzer's first layers: the hostile ones that are small. `layer-seeds DIR`.

#[path = "../../../tests/layer/hostile/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod hostile;
#[path = "../../../tests/layer/tarball.rs"]
mod tarball;

/// What is longer does not fit `-max_len`.
const MOST: usize = 8192;

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).expect("usage: layer-seeds DIR");
    let dir = std::path::PathBuf::from(dir);
    std::fs::create_dir_all(&dir)?;
    for case in hostile::all("/nslab-canary") {
        if case.tar.len() <= MOST {
            std::fs::write(dir.join(case.name), case.tar)?;
        }
    }
    Ok(())
}
