//! What of the host's mounts a node sees.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Mount points right below the mount `root` (its id) that a node is to see, from the text of
/// /proc/self/mountinfo (proc_pid_mountinfo(5)), in the order in which they were mounted. Those
/// further down come along with them.
pub(super) fn host_mounts(mountinfo: &str, root: u64, without: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(1);
        let parent = fields.next().and_then(|id| id.parse::<u64>().ok());
        let Some(point) = fields.nth(2).filter(|_| parent == Some(root)).map(unescape) else {
            continue;
        };
        let hidden = without.iter().any(|folder| point.starts_with(folder));
        if !hidden && point != Path::new("/") {
            // What lies below a later mount is covered by it, and cannot be reached.
            found.retain(|earlier| !earlier.starts_with(&point));
            found.push(point);
        }
    }
    found
}

fn unescape(text: &str) -> PathBuf {
    std::ffi::OsString::from_vec(crate::kernel::mount::unescape(text)).into()
}

#[cfg(test)]
mod tests {
    use super::super::rootfs::OWN_FOLDERS;
    use super::*;

    #[test]
    fn host_mounts_are_those_below_the_root_mount_that_can_be_reached() {
        let mountinfo = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:25 / /home rw shared:4 - ext4 /dev/vdb rw
29 28 0:26 / /home/me rw - ext4 /dev/vdc rw
30 27 0:27 / /mnt/a\\040b rw - tmpfs tmpfs rw
31 27 0:28 / /srv/x rw - tmpfs tmpfs rw
32 27 0:29 / /srv rw - tmpfs tmpfs rw
33 27 0:30 / /run rw - tmpfs tmpfs rw
34 27 0:31 / /running rw - tmpfs tmpfs rw
";
        assert_eq!(
            host_mounts(mountinfo, 27, &OWN_FOLDERS),
            [
                Path::new("/home"),
                Path::new("/mnt/a b"),
                Path::new("/srv"),
                Path::new("/running")
            ]
        );
    }
}
