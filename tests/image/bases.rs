//! Recipes on other images: those of a registry, and those of other recipes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::served::{Cli, Registry, Sample, noise, refused};
use crate::{require_root, tool};

const SCRIPT: &str = r#"
. "$NSLAB_LIB/root/root.sh"
echo "$(tr : '\n' <<< "$NSLAB_BASE" | wc -l) layers" > "$root/about"
cp "$(base data/small)" "$root/copy"
settle
"#;

struct Case {
    registry: Registry,
    sample: Sample,
    cli: Cli,
}

impl Case {
    fn new() -> Self {
        require_root();
        let case = Self {
            registry: Registry::plain(),
            sample: Sample::new(),
            cli: Cli::new(),
        };
        case.registry.copy(&case.sample.oci(), "base:v1", &[]);
        let from = format!(
            "from = {{ image = \"{}\", variable = \"TOP_IMAGE\" }}\nlib = [\"root\"]",
            case.registry.name("base:v1")
        );
        case.recipe("top", &from, SCRIPT);
        case
    }

    fn recipe(&self, name: &str, lines: &str, script: &str) {
        let folder = self.cli.dir.path().join("images").join(name);
        fs::create_dir_all(&folder).unwrap();
        let toml = format!(
            "format = 1\nname = \"{name}\"\nscript = \"build.sh\"\n{lines}\n\
             config.env = {{ TOP = \"{name}\" }}\nconfig.ports = [\"80/tcp\"]\n"
        );
        fs::write(folder.join("image.toml"), toml).unwrap();
        fs::write(folder.join("build.sh"), script).unwrap();
    }

    fn command(&self, name: &str, options: &[&str]) -> Command {
        let folder = self.cli.dir.path().join("images").join(name);
        let mut command = self.cli.command(&["image", "build", "--json"]);
        command.arg(folder).args(options).env_remove("TOP_IMAGE");
        command
    }

    fn build(&self, name: &str, options: &[&str]) -> serde_json::Value {
        serde_json::from_str(&tool(&mut self.command(name, options))).unwrap()
    }

    fn refuses(&self, name: &str, options: &[&str]) -> String {
        refused(&self.command(name, options).output().unwrap())
    }
}

fn layer(image: &serde_json::Value, number: usize) -> &Path {
    Path::new(image["layers"][number].as_str().unwrap())
}

#[test]
fn a_recipe_on_a_registrys_image() {
    let mut case = Case::new();
    let out = case.cli.dir.path().join("out");
    let image = case.build("top", &["--output", out.to_str().unwrap()]);
    assert_eq!(image["layers"].as_array().unwrap().len(), 3);
    assert_eq!(fs::read(layer(&image, 0).join("copy")).unwrap(), noise(100));
    let about = fs::read_to_string(layer(&image, 0).join("about")).unwrap();
    assert_eq!(about, "2 layers\n");
    // The base says what runs, the recipe only what else there is.
    assert_eq!(image["config"]["cmd"], serde_json::json!(["/data/run"]));
    assert_eq!(image["config"]["user"], "nobody");
    let env = image["config"]["env"].as_array().unwrap();
    assert!(env.contains(&serde_json::json!(["TOP", "top"])), "{env:?}");

    // As others see it.
    let bundle = case.cli.dir.path().join("bundle");
    let at = format!("{}:latest", out.display());
    let unpack = ["raw", "unpack", "--image", &at, bundle.to_str().unwrap()];
    tool(Command::new("umoci").args(unpack));
    for (file, size) in [("data/big", 3 << 20), ("data/small", 100), ("copy", 100)] {
        let content = fs::read(bundle.join(file)).unwrap();
        assert!(content == noise(size), "{file}");
    }
    let seen = tool(Command::new("skopeo").args(["inspect", "--config", &format!("oci:{at}")]));
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(
        seen["config"]["ExposedPorts"],
        serde_json::json!({ "80/tcp": {} })
    );
    let raw = tool(Command::new("skopeo").args(["inspect", "--raw", &format!("oci:{at}")]));
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let base = &raw["annotations"]["org.opencontainers.image.base.digest"];
    assert_eq!(
        *base,
        case.cli.pull(&case.registry.name("base:v1"))["digest"]
    );

    // Another base at the same tag: nobody asks for it, until somebody wants to.
    let other = Sample::new();
    fs::write(other.path("more"), "more").unwrap();
    let layout = format!("{}:v1", other.path("layout").display());
    let more = other.path("more");
    let insert = [
        "insert",
        "--image",
        &layout,
        more.to_str().unwrap(),
        "/more",
    ];
    tool(Command::new("umoci").args(insert));
    case.registry.copy(&other.oci(), "base:v1", &[]);
    assert_eq!(case.build("top", &[]), image);
    let forced = case.build("top", &["--force"]);
    assert_eq!(forced["layers"].as_array().unwrap().len(), 4);
    case.registry.copy(&case.sample.oci(), "base:v1", &[]);
    assert_eq!(case.build("top", &[]), forced);
    // The store's base is the old one again: what is on it is built anew, and is what it was.
    case.cli.pull(&case.registry.name("base:v1"));
    assert_eq!(case.build("top", &[]), image);

    // What is built needs neither registry nor the base by itself.
    let name = case.registry.name("base:v1");
    case.registry.child.kill().unwrap();
    case.registry.child.wait().unwrap();
    tool(&mut case.cli.command(&["image", "rm", &name]));
    assert_eq!(case.build("top", &[]), image);
    let said = case.refuses("top", &["--force"]);
    let start = format!("error: image `top` is made from {name}, which could not be had: ");
    assert!(said.starts_with(&start), "{said}");
    assert!(said.contains("onnect"), "{said}");
    assert!(
        said.trim_end()
            .ends_with("; name another image in TOP_IMAGE"),
        "{said}"
    );
    let said = refused(
        &case
            .command("top", &[])
            .env("TOP_IMAGE", "127.0.0.1:1/other:v2")
            .output()
            .unwrap(),
    );
    assert!(said.contains("made from 127.0.0.1:1/other:v2,"), "{said}");
}

#[test]
fn a_recipe_on_a_recipe() {
    let case = Case::new();
    case.recipe(
        "roof",
        "from.image = \"top\"\nlib = [\"root\"]",
        "set -e\n. \"$NSLAB_LIB/root/root.sh\"\necho roof > \"$root/about\"\nsettle\n",
    );
    let image = case.build("roof", &[]);
    assert_eq!(image["layers"].as_array().unwrap().len(), 4);
    assert_eq!(image["config"]["cmd"], serde_json::json!(["/data/run"]));
    assert_eq!(case.build("roof", &[]), image);
    // What is below changes.
    case.recipe(
        "top",
        "config.cmd = [\"/x\"]\n",
        "echo one > \"$NSLAB_ROOT/one\"\n",
    );
    let other = case.build("roof", &[]);
    assert_eq!(other["layers"].as_array().unwrap().len(), 2);
    assert_eq!(other["config"]["cmd"], serde_json::json!(["/x"]));
    assert_eq!(
        fs::read_to_string(layer(&other, 1).join("one")).unwrap(),
        "one\n"
    );

    case.recipe("top", "from.image = \"roof\"", "true\n");
    let said = case.refuses("roof", &[]);
    assert!(
        said.contains("image.toml: it is made from itself: roof from top from roof"),
        "{said}"
    );
}
