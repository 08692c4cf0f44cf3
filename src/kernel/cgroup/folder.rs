//! Groups made and removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Controller, Folder, Lack};
use crate::kernel::Result;
use crate::kernel::error::Context;

/// How long removing waits for tasks to leave: the kernel takes them out when it has reaped them,
/// which is after they are seen to have ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often making starts again when the last other lab takes the common folder away.
const TRIES: usize = 100;

/// Sees to it that no group of this name is there: an empty one that was left behind is removed.
///
/// # Errors
/// Processes are in it, so it is somebody else's.
pub fn clear(folder: &Folder) -> Result<()> {
    let path = folder.path();
    match fs::remove_dir(&path) {
        Err(e) if !gone(&e) => Err(e).op(|| {
            format!(
                "take the control group {}, which another lab of this name still uses",
                path.display()
            )
        }),
        _ => Ok(()),
    }
}

/// Makes a group and sets its limits. Gives the controllers that it could not be given, and why.
///
/// # Errors
/// The kernel refuses a value.
pub fn make(folder: &Folder) -> Result<Vec<(Controller, Lack)>> {
    let path = folder.path();
    let mut controllers: Vec<_> = folder.settings.iter().map(|s| s.controller).collect();
    controllers.dedup();
    if let Err(e) = make_folders(&path) {
        let why = Lack::Refused(format!("cannot make {}: {e}", path.display()));
        return Ok(controllers.into_iter().map(|c| (c, why.clone())).collect());
    }
    let mut lacking = Vec::new();
    if folder.unified {
        for controller in controllers {
            if let Err(why) = hand_down(folder, controller) {
                lacking.push((controller, why));
            }
        }
    }
    for setting in &folder.settings {
        if lacking.iter().any(|(c, _)| *c == setting.controller) {
            continue;
        }
        let file = path.join(setting.file);
        match write(&file, &setting.value) {
            Err(e) if setting.optional && e.kind() == ErrorKind::NotFound => {}
            other => other.op(|| format!("write {} to {}", setting.value, file.display()))?,
        }
    }
    Ok(lacking)
}

fn make_folders(path: &Path) -> io::Result<()> {
    let mut tries = 0..TRIES;
    loop {
        match fs::create_dir_all(path) {
            // The last lab but this one has just removed the common folder.
            Err(e) if e.kind() == ErrorKind::NotFound && tries.next().is_some() => {}
            other => return other,
        }
    }
}

/// Gives a controller to each folder down to the group. The folders are all there, so nobody takes
/// one away meanwhile. Nobody takes a controller back either: others may use it by then, and a
/// controller that nobody uses does nothing.
fn hand_down(folder: &Folder, controller: Controller) -> Result<(), Lack> {
    let above: Vec<_> = folder.group.ancestors().skip(1).collect();
    for group in above.into_iter().rev() {
        let file = folder.root.join(group).join("cgroup.subtree_control");
        let has = fs::read_to_string(&file).unwrap_or_default();
        let name = controller.name();
        if has.split_ascii_whitespace().any(|c| c == name) {
            continue;
        }
        write(&file, &format!("+{name}")).map_err(|e| {
            Lack::Refused(format!("cannot write +{name} to {}: {e}", file.display()))
        })?;
    }
    Ok(())
}

/// One write(2) to a file that is there: each is a message to the kernel.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Ends what is in a group, and removes it; and the folders of the lab and of all labs if this was the
/// last in them. A group that is not there is fine.
///
/// # Errors
/// Tasks that do not end keep it.
pub fn remove(path: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        match remove_once(path) {
            Ok(()) => break,
            Err(_) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Err(e) => {
                let tasks = tasks(path);
                return Err(e).op(|| {
                    let tasks: Vec<_> = tasks.iter().map(ToString::to_string).collect();
                    format!(
                        "remove the control group {} (processes in it: {})",
                        path.display(),
                        tasks.join(", ")
                    )
                });
            }
        }
    }
    for common in path.ancestors().skip(1).take(2) {
        // Of other nodes and labs still, or removed by them.
        if fs::remove_dir(common).is_err() {
            break;
        }
    }
    Ok(())
}

/// Groups inside first: a node that may mount can have made some.
fn remove_once(path: &Path) -> io::Result<()> {
    let folders = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in folders.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_once(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(e) if !gone(&e) => {
            kill(path);
            Err(e)
        }
        _ => Ok(()),
    }
}

/// Kills what is still in a group. `cgroup.kill` is Linux 5.14's.
fn kill(path: &Path) {
    if write(&path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in tasks(path) {
        let Some(pid) = rustix::process::Pid::from_raw(pid) else {
            continue;
        };
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Pids in a group; those of processes that cannot be seen from here are left out.
fn tasks(path: &Path) -> Vec<i32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let pids = text.lines().filter_map(|l| l.parse().ok());
    pids.filter(|p| *p > 0).collect()
}

/// Whether something is not there (any more): ENODEV is what reading a group that is being removed
/// gives.
fn gone(e: &io::Error) -> bool {
    e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
}
