//! Archives of OCI image layouts and of `docker save`, as skopeo writes them.

use std::fs;
use std::process::Command;

use crate::served::{Cli, Sample, is_sample, noise};
use crate::{require_root, tool};

#[test]
fn archives_of_both_kinds() {
    require_root();
    let (sample, cli) = (Sample::new(), Cli::new());
    let copy = |kind: &str, file: &str, name: &str| {
        let to = format!("{kind}:{}:{name}", sample.path(file).display());
        tool(Command::new("skopeo").args(["copy", "-q", &sample.oci(), &to]));
    };
    copy("oci-archive", "oci.tar", "v1");
    copy("docker-archive", "docker.tar", "example.org/sample:v1");
    tool(
        Command::new("gzip")
            .arg("-k")
            .arg(sample.path("docker.tar")),
    );
    // By reference, as a lab file has it.
    let at = |file: &str| sample.path(file).display().to_string();
    let store = nslab::image::Store::open(&cli.dir.path().join("store")).unwrap();
    let resolve = |reference: &str| {
        let image = store.resolve(reference, &[], &mut |_| {})?;
        Ok::<_, nslab::image::Error>(serde_json::json!({
            "layers": image.layers,
            "config": image.config,
        }))
    };
    let mut first = None;
    for file in [
        "oci.tar",
        "oci.tar:v1",
        "docker.tar",
        "docker.tar:v1",
        "docker.tar.gz",
        "docker.tar:example.org/sample:v1",
    ] {
        let image = resolve(&at(file)).unwrap();
        is_sample(&image);
        let layers = first.get_or_insert_with(|| image["layers"].clone());
        assert_eq!(image["layers"], *layers, "{file}");
    }
    let said = resolve(&at("docker.tar:v2")).unwrap_err().to_string();
    assert!(
        said.ends_with("no image is called `v2`, of: example.org/sample:v1"),
        "{said}"
    );
    fs::write(sample.path("no.tar"), noise(2000)).unwrap();
    assert!(resolve(&at("no.tar")).is_err());
    // A file that has changed is read again.
    copy("oci-archive", "second.tar", "v1");
    fs::copy(sample.path("second.tar"), sample.path("oci.tar")).unwrap();
    is_sample(&resolve(&at("oci.tar")).unwrap());
    assert_eq!(
        store
            .list()
            .unwrap()
            .iter()
            .filter(|i| i.name == at("oci.tar"))
            .count(),
        1
    );
}
