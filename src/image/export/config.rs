//! `config.json` of a bundle (OCI runtime spec, config.md and config-linux.md), from an image's
//! configuration by the rules of image-spec, conversion.md.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::OciSpecError;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder,
    LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder, Mount,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder, get_default_mounts,
    get_rootless_mounts,
};
use serde_json::Value;

use super::{BundleUser, Runtime};
use crate::image::RunConfig;

/// Version of the runtime spec that the file keeps to: what runc 1.1 (Debian 12) knows.
const VERSION: &str = "1.0.2";
/// Beginnings of labels that would become orders to a runtime instead of words about the image:
/// crun's (another handler, hooks' output), its wasm handler, systemd's properties of the unit
/// (runc and crun), a configuration file on the host for CRIU, Kata's, gVisor's. The rules allow to
/// leave them out, and want it to be told.
const ORDERS: [&str; 6] = [
    "run.oci.",
    "module.wasm.",
    "org.systemd.property.",
    "org.criu.",
    "io.katacontainers.",
    "dev.gvisor.",
];
/// Longest hostname in bytes (Linux, `__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 63;

/// What `config.json` is made of.
pub(super) struct Parts<'a> {
    /// What the image says of itself.
    pub about: &'a ImageConfiguration,
    /// What it says of its process.
    pub run: &'a RunConfig,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Who runs it.
    pub user: &'a BundleUser,
    /// The container's hostname.
    pub hostname: String,
    /// What nodes have, too.
    pub runtime: &'a Runtime<'a>,
    /// User and group on the host that are the container's root, in a bundle that is not root's.
    pub rootless: Option<(u32, u32)>,
}

/// The file's content, and a line for each label that was left out.
pub(super) fn text(parts: &Parts<'_>) -> Result<(String, Vec<String>), OciSpecError> {
    let (annotations, left_out) = annotations(parts.about);
    let spec = spec(parts, annotations)?;
    let mut value = serde_json::to_value(&spec)?;
    // The crate keeps them as sets, in another order each time.
    let sets = value.pointer_mut("/process/capabilities");
    for set in sets.and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(names) = set.1.as_array_mut() {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    if let Some(seccomp) = &parts.runtime.seccomp {
        value["linux"]["seccomp"] = seccomp.clone();
    }
    Ok((serde_json::to_string_pretty(&value)? + "\n", left_out))
}

fn spec(parts: &Parts<'_>, annotations: BTreeMap<String, String>) -> Result<Spec, OciSpecError> {
    let run = parts.run;
    let names = parts.runtime.capabilities.iter();
    let set = names
        .map(|name| {
            let plain = name.strip_prefix("CAP_").unwrap_or(name);
            Capability::from_str(plain)
                .map_err(|_| OciSpecError::Other(format!("unknown capability `{name}`")))
        })
        .collect::<Result<Capabilities, _>>()?;
    let mut capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .build()?;
    // Not the crate's defaults: what a program does not have by itself, it inherits from nobody.
    capabilities.set_inheritable(None).set_ambient(None);
    let user = UserBuilder::default()
        .uid(parts.user.uid)
        .gid(parts.user.gid);
    let user = match &parts.user.groups[..] {
        // A user namespace with one group has no others to give.
        groups if parts.rootless.is_none() && !groups.is_empty() => user.additional_gids(groups),
        _ => user,
    };
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(user.build()?)
        .args(parts.args.clone())
        .env(environment(&run.env, parts.runtime.path, &parts.user.home))
        .cwd(Path::new("/").join(&run.workdir))
        .capabilities(capabilities)
        .no_new_privileges(true)
        .build()?;
    // The crate's default is 1024 open files. Without a list a container has what the runtime was
    // started with, as a node has what `up` was.
    process.set_rlimits(None);
    SpecBuilder::default()
        .version(VERSION)
        .root(
            RootBuilder::default()
                .path(super::ROOTFS)
                .readonly(false)
                .build()?,
        )
        .process(process)
        .hostname(parts.hostname.clone())
        .mounts(mounts(parts.rootless.is_some()))
        .annotations(annotations.into_iter().collect::<HashMap<_, _>>())
        .linux(linux(parts)?)
        .build()
}

fn linux(parts: &Parts<'_>) -> Result<oci_spec::runtime::Linux, OciSpecError> {
    let mut kinds = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
    ];
    if parts.rootless.is_some() {
        kinds.push(LinuxNamespaceType::User);
    }
    let namespaces = kinds
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;
    let texts = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(texts(&parts.runtime.masked))
        .readonly_paths(texts(&parts.runtime.read_only));
    let Some((uid, gid)) = parts.rootless else {
        // No device but those that the runtime makes itself.
        let none = LinuxDeviceCgroupBuilder::default()
            .allow(false)
            .access("rwm")
            .build()?;
        let resources = LinuxResourcesBuilder::default()
            .devices(vec![none])
            .build()?;
        return linux.resources(resources).build();
    };
    let one = |id| {
        LinuxIdMappingBuilder::default()
            .container_id(0_u32)
            .host_id(id)
            .size(1_u32)
            .build()
    };
    let mut linux = linux
        .uid_mappings(vec![one(uid)?])
        .gid_mappings(vec![one(gid)?])
        .build()?;
    // The crate's default, which a user without cgroups of their own cannot have.
    linux.set_resources(None);
    Ok(linux)
}

/// The crate's lists are what `runc spec` and `runc spec --rootless` write. A node's /proc holds
/// neither programs nor devices, and so does this.
fn mounts(rootless: bool) -> Vec<Mount> {
    let mut mounts = if rootless {
        get_rootless_mounts()
    } else {
        get_default_mounts()
    };
    for mount in &mut mounts {
        if mount.destination() == Path::new("/proc") {
            let quiet = ["nosuid", "noexec", "nodev"];
            mount.set_options(Some(quiet.map(str::to_owned).to_vec()));
        }
    }
    mounts
}

/// The image's variables as they are, and PATH and HOME in any case, as nodes have them.
fn environment(env: &[(String, String)], path: &str, home: &str) -> Vec<String> {
    let has = |key: &str| env.iter().any(|(k, _)| k == key);
    let given = env.iter().map(|(k, v)| format!("{k}={v}"));
    let more = [("PATH", path), ("HOME", home)];
    let more = more.into_iter().filter(|(key, _)| !has(key));
    more.map(|(k, v)| format!("{k}={v}")).chain(given).collect()
}

/// conversion.md, "Annotation Fields", "Config.ExposedPorts": a label goes before what the other
/// fields would say.
fn annotations(about: &ImageConfiguration) -> (BTreeMap<String, String>, Vec<String>) {
    let config = about.config().clone().unwrap_or_default();
    let mut all = BTreeMap::new();
    let mut left_out = Vec::new();
    for (key, value) in config.labels().clone().unwrap_or_default() {
        if key.is_empty() || ORDERS.iter().any(|order| key.starts_with(order)) {
            left_out.push(format!(
                "label `{key}`: it would be an order to the runtime"
            ));
        } else {
            all.insert(key, value);
        }
    }
    left_out.sort();
    let ports = config.exposed_ports().clone().map(|mut ports| {
        ports.sort();
        ports.join(",")
    });
    let features = about.os_features().clone().map(|list| list.join(","));
    let fields = [
        ("os", Some(about.os().to_string())),
        ("architecture", Some(about.architecture().to_string())),
        ("variant", about.variant().clone()),
        ("os.version", about.os_version().clone()),
        ("os.features", features),
        ("author", about.author().clone()),
        ("created", about.created().clone()),
        ("stopSignal", config.stop_signal().clone()),
        ("exposedPorts", ports),
    ];
    for (key, value) in fields {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            let key = format!("org.opencontainers.image.{key}");
            all.entry(key).or_insert(value);
        }
    }
    (all, left_out)
}

/// A hostname out of an image's reference: `tomcat` of `./images/tomcat`, `nginx` of
/// `registry:5000/library/nginx:1.27` and of `./nginx.tar:v1`.
pub(super) fn hostname(reference: &str) -> String {
    let plain = reference.split('@').next().unwrap_or_default();
    let last = PathBuf::from(plain);
    let last = last.file_name().map(|n| n.to_string_lossy().into_owned());
    let last = last.unwrap_or_default();
    let last = last.split(':').next().unwrap_or_default();
    let last = last.split('.').next().unwrap_or_default();
    let name: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(HOSTNAME_MAX)
        .collect();
    match name.trim_matches('-') {
        "" => "container".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_of_references() {
        for (reference, want) in [
            ("tomcat", "tomcat"),
            ("./images/tomcat/", "tomcat"),
            ("nginx:1.27", "nginx"),
            ("registry:5000/library/My_App:v1", "my-app"),
            ("localhost:5000/name@sha256:00", "name"),
            ("/tmp/nginx.tar:v1", "nginx"),
            ("./..", "container"),
        ] {
            assert_eq!(hostname(reference), want, "{reference}");
        }
    }

    #[test]
    fn a_label_goes_before_a_field_and_orders_are_left_out() {
        let about: ImageConfiguration = serde_json::from_str(
            r#"{"architecture":"arm64","os":"linux","variant":"v8","author":"A <a@example>",
                "created":"2024-01-01T00:00:00Z","os.version":"","rootfs":{"type":"layers",
                "diff_ids":[]},"config":{"StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{},
                "53/udp":{}},"Labels":{"org.opencontainers.image.author":"B","x":"",
                "run.oci.handler":"krun","org.systemd.property.ExecStartPre":"y"}}}"#,
        )
        .unwrap();
        let (all, left_out) = annotations(&about);
        let want = [
            ("org.opencontainers.image.architecture", "arm64"),
            ("org.opencontainers.image.author", "B"),
            ("org.opencontainers.image.created", "2024-01-01T00:00:00Z"),
            ("org.opencontainers.image.exposedPorts", "53/udp,80/tcp"),
            ("org.opencontainers.image.os", "linux"),
            ("org.opencontainers.image.stopSignal", "SIGQUIT"),
            ("org.opencontainers.image.variant", "v8"),
            ("x", ""),
        ];
        let all: Vec<_> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(all, want);
        assert_eq!(
            left_out,
            [
                "label `org.systemd.property.ExecStartPre`: it would be an order to the runtime",
                "label `run.oci.handler`: it would be an order to the runtime"
            ]
        );
    }

    #[test]
    fn variables_stay_and_two_are_added() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let env = [pair("A", "1=2"), pair("HOME", "/h")];
        assert_eq!(
            environment(&env, "/bin", "/root"),
            ["PATH=/bin", "A=1=2", "HOME=/h"]
        );
    }
}
