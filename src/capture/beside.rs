//! Files that are not captures, beside them.

use std::io::Write;
use std::path::Path;

use super::Error;
use super::folder::{Missing, create, remove, walk};

/// Makes a file in a folder of captures with these contents, in place of whatever has its name, and
/// gives it to `owner`. As with captures no planted link is followed.
pub fn write_beside(path: &Path, contents: &[u8], owner: Option<(u32, u32)>) -> Result<(), Error> {
    let failed = |what, source| Error::File {
        what,
        path: path.into(),
        source,
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Nameless { path: path.into() });
    };
    let dir = walk(folder, Missing::Refuse)?;
    let mut file = create(&dir, name, owner).map_err(|(what, source)| failed(what, source))?;
    file.write_all(contents)
        .map_err(|error| failed("write", error))
}

/// Removes such a file; that it is not there is as good.
pub fn remove_beside(path: &Path) -> Result<(), Error> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Nameless { path: path.into() });
    };
    let dir = walk(folder, Missing::Refuse)?;
    remove(&dir, name).map_err(|errno| Error::File {
        what: "remove",
        path: path.into(),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "keep").unwrap();
        let folder = dir.path().join("exchange/dsr");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("lab.json");
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        write_beside(&path, b"{}", None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "keep");
    }
}
