//! Networks as the field's own tools see them: offloads, sysctls, MTU, owners, the loopback style.

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{Bench, count, frames, host, same_host, text, tool};

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("labs")
        .join(name)
}

#[test]
fn links_look_like_a_wire_and_nothing_is_inherited_from_the_host() {
    let bench = Bench::new();
    let lab = bench.lab(
        r#"name = "wire"
[networks.small]
subnet = "10.84.1.0/24"
host = "10.84.1.254"
mtu = 1400
[networks.big]
subnet = "10.84.2.0/24"
mtu = 9000
[nodes.r]
forward = true
interfaces.eth0 = { network = "small", address = "10.84.1.1" }
interfaces.eth1 = { network = "big", address = "10.84.2.1" }
sysctls = { "net.ipv4.ip_default_ttl" = "61" }
[nodes.n]
interfaces.eth0 = { network = "big", address = "10.84.2.2", aliases = ["10.84.2.100"] }
gateway = "r"
[capture]
interfaces = ["n:eth0"]
"#,
    );
    // What a new namespace would copy from the host's.
    let ours = [
        "net.ipv4.conf.all.rp_filter",
        "net.ipv4.conf.default.rp_filter",
        "net.ipv4.ip_forward",
    ];
    let was: Vec<_> = ours
        .iter()
        .map(|key| tool("sysctl", &["-n", key]))
        .collect();
    for (key, value) in ours.iter().zip(["2", "2", "1"]) {
        tool("sysctl", &["-q", "-w", &format!("{key}={value}")]);
    }
    // No tool of the host is run: there is none to be found.
    let up = bench
        .nslab()
        .arg("up")
        .arg(&lab)
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    for (key, value) in ours.iter().zip(&was) {
        tool("sysctl", &["-q", "-w", &format!("{key}={}", value.trim())]);
    }
    assert!(up.status.success(), "{}", text(&up.stderr));

    for (node, link) in [("r", "eth0"), ("r", "eth1"), ("n", "eth0")] {
        offloads_are_off(&bench.outside("wire", node, &format!("ethtool -k {link}")));
    }
    offloads_are_off(&tool("ethtool", &["-k", "wire-small"]));
    let sysctl = |node: &str, key: &str| bench.outside("wire", node, &format!("sysctl -n {key}"));
    for (node, link, forward) in [("r", "eth1", "1\n"), ("n", "eth0", "0\n")] {
        assert_eq!(sysctl(node, "net.ipv4.ip_forward"), forward);
        for conf in ["all", "default", link] {
            for (key, value) in [
                ("rp_filter", "0\n"),
                ("arp_ignore", "0\n"),
                ("arp_announce", "0\n"),
            ] {
                assert_eq!(
                    sysctl(node, &format!("net.ipv4.conf.{conf}.{key}")),
                    value,
                    "{node} {conf} {key}"
                );
            }
            assert_eq!(
                sysctl(node, &format!("net.ipv6.conf.{conf}.disable_ipv6")),
                "1\n"
            );
        }
    }
    assert_eq!(sysctl("r", "net.ipv4.ip_default_ttl"), "61\n");
    let mtu = |json: &str| {
        let links: serde_json::Value = serde_json::from_str(json).unwrap();
        links[0]["mtu"].as_u64().unwrap()
    };
    assert_eq!(
        mtu(&bench.outside("wire", "r", "ip -j link show eth0")),
        1400
    );
    assert_eq!(
        mtu(&bench.outside("wire", "n", "ip -j link show eth0")),
        9000
    );
    assert_eq!(
        mtu(&tool("ip", &["-j", "link", "show", "wire-small"])),
        1400
    );
    // The path is as wide as its narrowest link; the host is on it.
    bench.ok("exec n ping -c1 -W5 -M do -s 8972 10.84.2.1");
    bench.ok("exec r ping -c1 -W5 10.84.2.100");
    tool("ping", &["-c1", "-W5", "10.84.1.1"]);
    let listed = bench.json("capture --json");
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(
        bench
            .ok("exec r ip -4 -br addr show eth1")
            .split_whitespace()
            .collect::<Vec<_>>()[2],
        "10.84.2.1/24"
    );
    bench.ok("down");
}

fn offloads_are_off(features: &str) {
    for feature in [
        "tx-checksumming",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
        "generic-receive-offload",
    ] {
        assert!(
            features.contains(&format!("{feature}: off")),
            "{feature}:\n{features}"
        );
    }
    let left = features.lines().find(|l| l.contains("-segmentation: on"));
    assert_eq!(left, None, "{features}");
}

#[test]
fn captures_belong_to_the_user_who_ran_sudo() {
    let bench = Bench::new();
    let mut up = bench.nslab();
    up.arg("up")
        .arg(shipped("two-subnets.toml"))
        .env("SUDO_UID", "4711")
        .env("SUDO_GID", "4712");
    assert!(up.status().unwrap().success());
    bench.ok("down");
    let folder = bench.path("exchange/two-subnets");
    let mut files = 0;
    for path in std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .chain([folder.clone()])
    {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            (4711, 4712),
            "{}",
            path.display()
        );
        // Beside them are what is merged of them and what is known of the lab.
        files += usize::from(path.extension().is_some_and(|e| e == "pcap"));
    }
    assert_eq!(files, 4);
}

#[test]
fn realservers_of_the_loopback_style_hold_the_vip_and_keep_silent_about_it() {
    const VIP: &str = "172.28.129.100";
    let bench = Bench::new();
    let before = host();
    bench.up(&shipped("dsr-loopback.toml"));
    let mac = |node: &str| {
        let link = bench.outside("dsr-loopback", node, "ip -j link show dev eth1");
        let link: serde_json::Value = serde_json::from_str(&link).unwrap();
        link[0]["address"].as_str().unwrap().to_owned()
    };
    let lb = mac("lb");
    for server in ["server1", "server2"] {
        let lo = bench.outside("dsr-loopback", server, "ip -br -4 addr show dev lo");
        assert!(lo.contains(&format!("{VIP}/32")), "{lo}");
        for conf in ["all", "eth1"] {
            let key = |key| {
                bench.outside(
                    "dsr-loopback",
                    server,
                    &format!("sysctl -n net.ipv4.conf.{conf}.{key}"),
                )
            };
            assert_eq!(
                (key("arp_ignore").as_str(), key("arp_announce").as_str()),
                ("1\n", "2\n")
            );
        }
        let rules = bench.outside("dsr-loopback", server, "nft list ruleset");
        assert_eq!(rules, "", "no REDIRECT in this style");
    }
    for _ in 0..4 {
        let code = bench.ok(&format!(
            "exec client curl -sS -m 20 -o /dev/null -w %{{http_code}} http://{VIP}:8080/"
        ));
        assert_eq!(code, "200");
    }
    bench.ok("down");
    let file = |interface: &str| bench.capture_file("dsr-loopback", interface);
    // Weights 3 and 1: of four connections, three and one.
    let syns = |server: &str| {
        count(
            &file(server),
            "tcp.flags.syn==1 && tcp.flags.ack==0 && ip.dst==172.28.129.100",
        )
    };
    assert_eq!((syns("server1:eth1"), syns("server2:eth1")), (3, 1));
    assert_eq!(count(&file("lb:eth1"), &format!("ip.src=={VIP} && tcp")), 0);
    // Who has the VIP? The director says so, and nobody else.
    let answers = frames(
        &file("router:eth2"),
        &format!("arp.opcode==2 && arp.src.proto_ipv4=={VIP}"),
        &["eth.src"],
    );
    assert!(
        !answers.is_empty() && answers.iter().all(|a| *a == lb),
        "{answers:?}, not {lb}"
    );
    same_host(&before);
}

/// The ends of tunnels where the kernel has tunnels; where it has none, the module's name.
#[test]
fn ends_of_tunnels_are_made_or_the_missing_module_is_named() {
    use nslab::kernel::{Kernel, Linux, Ns, TunnelSpec};

    // What the kernel has, by the field's own tool in a namespace of its own.
    let has = |kind: &str, local: &str| {
        let add = format!("ip link add name probe type {kind} local {local}");
        let out = std::process::Command::new("unshare")
            .args(["-n", "sh", "-c", &add])
            .output();
        out.unwrap().status.success()
    };
    let pins = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kernel = Linux::new(pins.path().to_owned()).unwrap();
            let ns = Ns::named("a");
            kernel.add_netns(&ns).unwrap();
            let pin = pins.path().join("a");
            for (name, local, module, option) in [
                ("ipip1", "10.0.0.4", "ipip", "NET_IPIP"),
                ("ip6tnl1", "fd00::4", "ip6_tunnel", "IPV6_TUNNEL"),
            ] {
                let tunnel = TunnelSpec {
                    name: name.into(),
                    local: local.parse().unwrap(),
                };
                let made = kernel.add_tunnel(&ns, &tunnel);
                let kind = tunnel.kind();
                if has(kind, local) {
                    made.unwrap();
                    kernel.set_link_up(&ns, name).unwrap();
                    let net = format!("--net={}", pin.display());
                    let links = tool("nsenter", &[&net, "ip", "-d", "link", "show", name]);
                    let ours = format!("{kind} ");
                    assert!(links.contains(&ours), "{links}");
                    assert!(links.contains("remote any local "), "{links}");
                    assert!(links.contains(local) && links.contains(",UP"), "{links}");
                } else {
                    assert_eq!(
                        made.unwrap_err().to_string(),
                        format!(
                            "cannot add tunnel {name} type {kind} local {local} remote any: this kernel \
                             has no such tunnels (CONFIG_{option}, module {module}): load it with \
                             `modprobe {module}`; on Ubuntu the module is in package \
                             linux-modules-extra-$(uname -r)"
                        )
                    );
                }
            }
            drop(kernel);
            nix::mount::umount2(&pin, nix::mount::MntFlags::MNT_DETACH).unwrap();
        });
    });
}
