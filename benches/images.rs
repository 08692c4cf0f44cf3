//! The parts of nslab that have no command of their own, for `scripts/bench images` to time:
//!
//! - `unpack REFERENCE`: an image into the store `$NSLAB_STORE`, as `nslab up` does it first.
//! - `start NSLAB IMAGE DIR PROGRAM`: for each line on standard input, a new node of the image whose
//!   main process is PROGRAM; prints the seconds until the program's end is known, and until the node
//!   is gone. DIR holds the node's writable layer.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nslab::image::{Image, Store};
use nslab::node::{
    DEFAULT_CAPABILITIES, InitEvent, InitSpec, MountTemplate, Process, RestartPolicy, Rootfs,
    SpawnOptions, spawn_with,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["unpack", reference] => resolve(reference).map(drop),
        ["start", nslab, reference, folder, program] => start(
            &SpawnOptions {
                exe: Some(nslab.into()),
                mounts: Some(Arc::new(MountTemplate::new()?)),
            },
            &resolve(reference)?,
            Path::new(folder),
            program,
        ),
        // `cargo bench` runs whatever is here.
        _ => {
            println!("scripts/bench images runs this");
            Ok(())
        }
    }
}

fn resolve(reference: &str) -> Result<Image> {
    let store = Store::open(&Store::default_root())?;
    Ok(store.resolve(reference, &[], &mut |_| {})?)
}

fn start(options: &SpawnOptions, image: &Image, folder: &Path, program: &str) -> Result<()> {
    for line in io::stdin().lock().lines() {
        line?;
        let [upper, work, root] = ["upper", "work", "root"].map(|name| folder.join(name));
        for folder in [&upper, &work, &root] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir(folder)?;
        }
        let rootfs = Rootfs::Overlay {
            lower: image.layers.clone(),
            upper,
            work,
            target: root,
            kept: false,
        };
        let (ended, gone) = once(options, rootfs, program)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{ended} {gone}")?;
        out.flush()?;
    }
    Ok(())
}

/// Seconds until the program's end is known, and until the node is gone.
fn once(options: &SpawnOptions, rootfs: Rootfs, program: &str) -> Result<(f64, f64)> {
    let start = Instant::now();
    let spec = InitSpec {
        hostname: "bench".into(),
        rootfs,
        hosts: "127.0.0.1 localhost\n".into(),
        binds: Vec::new(),
        env: Vec::new(),
        user: String::new(),
        cwd: PathBuf::new(),
        capabilities: DEFAULT_CAPABILITIES
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        process: Some(Process {
            argv: vec![program.to_owned()],
            restart: RestartPolicy::No,
        }),
        grace_ms: 3000,
        stop_signal: libc::SIGTERM,
        tmpfs: Vec::new(),
        seccomp: true,
        cgroups: Vec::new(),
    };
    let init = spawn_with(&spec, netns()?.as_fd(), options)?;
    let mut events = BufReader::new(File::from(init.status.try_clone()?));
    let mut line = String::new();
    loop {
        line.clear();
        if events.read_line(&mut line)? == 0 {
            return Err("init ended".into());
        }
        match serde_json::from_str(&line)? {
            InitEvent::Exited { code: Some(0), .. } => break,
            InitEvent::Up | InitEvent::Started { .. } => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    let ended = start.elapsed();
    init.signal(Signal::SIGKILL)?;
    nix::sys::wait::waitpid(init.pid, None)?;
    Ok((ended.as_secs_f64(), start.elapsed().as_secs_f64()))
}

/// A new network namespace, alive as long as the descriptor.
fn netns() -> Result<OwnedFd> {
    let made = std::thread::spawn(|| -> io::Result<OwnedFd> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    });
    Ok(made.join().map_err(|_| "the thread panicked")??)
}
