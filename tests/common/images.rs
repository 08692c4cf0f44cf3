//! Small images for labs: busybox and a few files, one layer for all of them, written by umoci.

use std::path::{Path, PathBuf};

use super::{Bench, tool};

/// An image layout beside the lab file, which names its images `./images:TAG`.
pub struct Images {
    layout: PathBuf,
}

impl Images {
    /// The layout with the image `base`, which says nothing about what runs in it. Its users are
    /// root, `web` (101, groups web 102 and logs 103) and its home is /srv.
    pub fn new(bench: &Bench) -> Self {
        let images = Self {
            layout: bench.path("images"),
        };
        let bundle = bench.path("bundle");
        umoci(&["init", "--layout", &text(&images.layout)]);
        umoci(&["new", "--image", &images.at("base")]);
        umoci(&["unpack", "--image", &images.at("base"), &text(&bundle)]);
        let root = bundle.join("rootfs");
        for folder in ["bin", "etc", "srv"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let busybox = tool("sh", &["-c", "command -v busybox"]);
        std::fs::copy(busybox.trim(), root.join("bin/busybox")).unwrap();
        for applet in tool("busybox", &["--list"]).lines() {
            let path = root.join("bin").join(applet);
            if !path.exists() {
                std::os::unix::fs::symlink("busybox", path).unwrap();
            }
        }
        let files = [
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n",
            ),
            ("etc/group", "root:x:0:\nweb:x:102:\nlogs:x:103:web\n"),
            ("srv/image", "of the image\n"),
        ];
        for (path, content) in files {
            std::fs::write(root.join(path), content).unwrap();
        }
        umoci(&["repack", "--image", &images.at("base"), &text(&bundle)]);
        std::fs::remove_dir_all(&bundle).unwrap();
        images
    }

    /// The same files as image `tag`, with these options of umoci-config(1), as
    /// `config.cmd=/bin/true`; an option given several times is a list.
    pub fn with(&self, tag: &str, config: &[&str]) {
        let options: Vec<String> = config.iter().map(|c| format!("--{c}")).collect();
        let base = self.at("base");
        let mut args = vec!["config", "--image", &base, "--tag", tag];
        args.extend(options.iter().map(String::as_str));
        umoci(&args);
    }

    fn at(&self, tag: &str) -> String {
        format!("{}:{tag}", self.layout.display())
    }
}

fn umoci(args: &[&str]) {
    tool("umoci", args);
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
