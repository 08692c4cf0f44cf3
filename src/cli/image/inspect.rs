//! `nslab image inspect`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use indicatif::{HumanBytes, HumanDuration};

use super::list::{short, users};
use crate::cli::{self, Result};
use crate::image::Inspected;

/// Arguments of `nslab image inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name, its digest, or the first digits of that
    #[arg(value_name = "NAME|DIGEST")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let image = super::store()?.inspect(&args.name)?;
    if args.json {
        return cli::print_json(&image);
    }
    cli::print(&text(&image, SystemTime::now()))
}

fn text(image: &Inspected, now: SystemTime) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key:12}{value}");
        }
    };
    let bytes = |n: u64| HumanBytes(n).to_string();
    line("image", &image.references.join(", "));
    line("kind", &image.kind);
    line("digest", &image.digest);
    line(
        "platform",
        image
            .platform
            .as_deref()
            .unwrap_or("unknown: its layout is gone"),
    );
    line("created", image.created.as_deref().unwrap_or_default());
    line("unpacked", &age(image.unpacked_at, now));
    let config = &image.config;
    line("entrypoint", &words(&config.entrypoint));
    line("cmd", &words(&config.cmd));
    for (n, (name, value)) in config.env.iter().enumerate() {
        line(if n == 0 { "env" } else { "" }, &format!("{name}={value}"));
    }
    let user = if config.user.is_empty() {
        "root"
    } else {
        &config.user
    };
    line("user", user);
    let workdir = config.workdir.display().to_string();
    line("workdir", if workdir.is_empty() { "/" } else { &workdir });
    let signal = config.stop_signal.as_deref().unwrap_or("SIGTERM");
    line("stop signal", signal);
    line("ports", &image.ports.join(", "));
    line("volumes", &image.volumes.join(", "));
    for (n, (name, value)) in image.labels.iter().enumerate() {
        line(
            if n == 0 { "labels" } else { "" },
            &format!("{name}={value}"),
        );
    }
    line(
        "size",
        &format!(
            "{} as blobs, {} unpacked: {} its own, {} shared with other images",
            bytes(image.size),
            bytes(image.unpacked),
            bytes(image.unique),
            bytes(image.shared)
        ),
    );
    line("layout", &image.layout.display().to_string());
    line("used by", &users(&image.used_by));
    let _ = writeln!(
        text,
        "\n{:19}  {:19}  {:>10}  {:>10}  SHARED WITH",
        "LAYER (TOP FIRST)", "BLOB", "SIZE", "UNPACKED"
    );
    for layer in &image.layers {
        let shared = if layer.shared_with.is_empty() {
            "-".to_owned()
        } else {
            layer.shared_with.join(", ")
        };
        let _ = writeln!(
            text,
            "{:19}  {:19}  {:>10}  {:>10}  {shared}",
            short(&layer.diff_id),
            layer.digest.as_deref().map_or("-", short),
            layer.size.map_or_else(|| "-".to_owned(), bytes),
            layer.unpacked.map_or_else(|| "missing".to_owned(), bytes),
        );
    }
    text
}

/// As a shell would have it.
fn words(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// How long ago that was.
fn age(seconds: u64, now: SystemTime) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let age = now.duration_since(then).unwrap_or_default();
    format!("{} ago", HumanDuration(age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{InspectedLayer, RunConfig};

    #[test]
    fn the_text() {
        let config = RunConfig {
            entrypoint: vec!["/bin/sh".into(), "-c".into(), "echo 'a' $B".into()],
            env: vec![("A".into(), "1".into()), ("B".into(), "x y".into())],
            ..RunConfig::default()
        };
        let layer = |n: &str, shared: &[&str]| InspectedLayer {
            diff_id: format!("sha256:{}", n.repeat(64)),
            digest: None,
            size: Some(100),
            unpacked: None,
            shared_with: shared.iter().map(ToString::to_string).collect(),
        };
        let image = Inspected {
            references: vec!["tiny".into(), "/l:v1".into()],
            kind: "recipe".into(),
            digest: "sha256:0".into(),
            platform: Some("linux/amd64".into()),
            created: Some("2024-01-01T00:00:00Z".into()),
            unpacked_at: 0,
            config,
            ports: vec!["80/tcp".into()],
            volumes: Vec::new(),
            labels: std::iter::once(("k".to_owned(), "v".to_owned())).collect(),
            layers: vec![layer("a", &[]), layer("b", &["other"])],
            size: 2048,
            unpacked: 4096,
            unique: 1024,
            shared: 3072,
            layout: "/l".into(),
            used_by: Vec::new(),
        };
        let want = r"image       tiny, /l:v1
kind        recipe
digest      sha256:0
platform    linux/amd64
created     2024-01-01T00:00:00Z
unpacked    2 hours ago
entrypoint  /bin/sh -c 'echo '\''a'\'' $B'
env         A=1
            B=x y
user        root
workdir     /
stop signal SIGTERM
ports       80/tcp
labels      k=v
size        2.00 KiB as blobs, 4.00 KiB unpacked: 1.00 KiB its own, 3.00 KiB shared with other images
layout      /l
used by     -

LAYER (TOP FIRST)    BLOB                       SIZE    UNPACKED  SHARED WITH
sha256:aaaaaaaaaaaa  -                         100 B     missing  -
sha256:bbbbbbbbbbbb  -                         100 B     missing  other
";
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(2);
        assert_eq!(text(&image, now), want);
    }
}
