//! Writes the fuzzer's first inputs: small capture files of every format and with every kind of
//! block. `seeds DIR`.

#[path = "../../../tests/savefile/build.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod build;
#[path = "../../../tests/savefile/samples.rs"]
mod samples;

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).expect("usage: seeds DIR");
    let dir = std::path::PathBuf::from(dir);
    std::fs::create_dir_all(&dir)?;
    for (name, bytes) in samples::samples() {
        std::fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}
