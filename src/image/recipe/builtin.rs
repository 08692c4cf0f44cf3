//! What is part of the program, so that an installed nslab needs no checkout: recipes, and the
//! library that all recipes may use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::line;
use crate::image::digest;
use crate::image::error::{Error, IoContext};

/// A file that is part of the program.
pub(super) struct Embedded {
    pub path: &'static str,
    pub content: &'static [u8],
    pub executable: bool,
}

type Folder = (&'static str, &'static [Embedded]);

macro_rules! embed {
    ($folder:literal: $($path:literal $executable:literal),* $(,)?) => {
        &[$(Embedded {
            path: $path,
            content: include_bytes!(concat!("../../../", $folder, "/", $path)),
            executable: $executable,
        }),*]
    };
}

/// The recipes.
pub(super) const RECIPES: &[Folder] = &[
    (
        "tomcat",
        embed!("images/tomcat":
            "build.sh" true,
            "conf/web.xml" false,
            "image.toml" false,
            "java/nslab/Launcher.java" false,
            "java/nslab/Standin.java" false,
            "webapps/thredds/WEB-INF/web.xml" false,
        ),
    ),
    (
        "net-tools",
        embed!("images/net-tools": "build.sh" true, "image.toml" false),
    ),
    (
        "nginx",
        embed!("images/nginx":
            "build.sh" true,
            "entrypoint" true,
            "image.toml" false,
            "index.html" false,
            "nginx.conf" false,
        ),
    ),
    (
        "thredds",
        embed!("images/thredds":
            "build.sh" true,
            "content/catalog.xml" false,
            "content/threddsConfig.xml" false,
            "image.toml" false,
            "netcdf.sh" false,
            "setenv.sh" false,
        ),
    ),
];

/// The library's parts (`images/lib`). It is always this program's own, so that a recipe in a
/// folder and one that is built in cannot differ, and recipes of users can use it.
pub(super) const PARTS: &[Folder] = &[
    ("root", embed!("images/lib/root": "root.sh" false)),
    (
        "tomcat",
        embed!("images/lib/tomcat":
            "conf/catalina.properties" false,
            "conf/context.xml" false,
            "conf/server.xml" false,
            "java/nslab/Realserver.java" false,
            "run" true,
            "tomcat.sh" false,
        ),
    ),
];

/// The files of the built-in recipe of that name.
pub(super) fn recipe(name: &str) -> Option<(&'static str, &'static [Embedded])> {
    RECIPES.iter().find(|(n, _)| *n == name).copied()
}

/// The files of a part of the library.
pub(super) fn part(name: &str) -> Option<&'static [Embedded]> {
    PARTS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// One line a file, as of a folder.
pub(super) fn lines(files: &[Embedded]) -> Vec<String> {
    files
        .iter()
        .map(|f| line(f.path, f.executable, &digest::of(f.content)))
        .collect()
}

/// Writes the files into the folder `to`.
pub(super) fn write(files: &[Embedded], to: &Path) -> Result<(), Error> {
    for file in files {
        let path = to.join(file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).on("create folder", parent)?;
        }
        fs::write(&path, file.content).on("write", &path)?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).on("set mode of", &path)?;
    }
    Ok(())
}
