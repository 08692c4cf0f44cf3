//! Carrying a plan out: each step in order, the journal before the deed, a word to whoever
//! watches after it. What is made here is undone by `teardown` from the journal alone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Result;
use super::error::Error;
use super::journal::Undo;
use crate::director::{self, Program, ServiceSpec};
use crate::kernel::cgroup::{self, Controller, Lack, Placement};
use crate::kernel::{Kernel, Ns, Sysctl};
use crate::lab::EngineChoice;
use crate::plan::{CaptureTarget, Plan, Step};

/// What `apply` needs from the supervisor besides a kernel.
pub(super) trait Host<K> {
    /// Writes down what is about to be done.
    fn journal(&mut self, undo: Undo) -> Result<()>;
    /// Starts the captures.
    fn capture(&mut self, kernel: &mut K, interfaces: &[CaptureTarget]) -> Result<()>;
    /// Whether this kernel has IPVS.
    fn has_ipvs(&mut self) -> bool;
    /// Where this machine keeps limits.
    fn cgroups(&mut self) -> cgroup::Layout;
    /// A node's limits are set.
    fn limited(&mut self, limited: Limited);
    /// A director has been programmed.
    fn directed(&mut self, director: Directed);
    /// `done` steps are carried out.
    fn progress(&mut self, done: usize);
}

/// A director as it was programmed.
#[derive(Debug, Clone)]
pub(super) struct Directed {
    pub(super) node: String,
    pub(super) engine: &'static str,
    pub(super) reason: String,
    /// A setting of IPVS that has no effect with this engine.
    pub(super) ignored: Option<String>,
    pub(super) services: Vec<ServiceSpec>,
}

/// A node whose limits are set, as far as this machine can.
#[derive(Debug, Clone)]
pub(super) struct Limited {
    pub(super) node: String,
    pub(super) limits: cgroup::Limits,
    /// The groups that the node's processes have to be in.
    pub(super) folders: Vec<PathBuf>,
    /// What is not limited, and why.
    pub(super) lacking: Vec<(Controller, Lack)>,
}

/// Carries out everything of a plan but the node processes, which are the supervisor's own.
///
/// # Errors
/// The first step that fails ends it, and so does `cancel`; undoing is the caller's.
pub(super) fn network<K: Kernel>(
    plan: &Plan,
    kernel: &mut K,
    host: &mut dyn Host<K>,
    cancel: &AtomicBool,
) -> Result<()> {
    for (n, step) in plan.steps.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        carry_out(step, kernel, host)?;
        host.progress(n + 1);
    }
    Ok(())
}

/// Carries out what a node needs that joins a service ([`crate::plan::Acceptance::steps_from`]).
pub(super) fn in_a_node<K: Kernel>(steps: &[Step], kernel: &mut K) -> Result<()> {
    steps.iter().try_for_each(|step| in_node(step, kernel))
}

/// What is made inside one namespace and dies with it.
fn in_node<K: Kernel>(step: &Step, kernel: &mut K) -> Result<()> {
    match step {
        Step::Sysctls { ns, values } => kernel.set_sysctls(ns, values)?,
        Step::Tunnel { ns, tunnel } => kernel.add_tunnel(ns, tunnel)?,
        Step::Address { ns, link, address } => kernel.add_address(ns, link, *address)?,
        Step::Up { ns, link } => kernel.set_link_up(ns, link)?,
        Step::Accept { ns, ruleset } => kernel.apply_nft(ns, ruleset)?,
        Step::CheckPath { ns, path, .. } => kernel.add_marked_path(ns, path)?,
        _ => {}
    }
    Ok(())
}

fn carry_out<K: Kernel>(step: &Step, kernel: &mut K, host: &mut dyn Host<K>) -> Result<()> {
    match step {
        Step::Netns { ns } => kernel.add_netns(ns)?,
        Step::Sysctls { .. }
        | Step::Tunnel { .. }
        | Step::Address { .. }
        | Step::Up { .. }
        | Step::Accept { .. }
        | Step::CheckPath { .. } => in_node(step, kernel)?,
        Step::Bridge { ns, bridge } => kernel.add_bridge(ns, bridge)?,
        Step::Veth(veth) => {
            if let Some(mark) = &veth.mark {
                host.journal(Undo::HostLink {
                    mark: mark.clone(),
                    name: veth.name.clone(),
                    mac: veth.mac,
                })?;
            }
            kernel.add_veth(veth)?;
        }
        Step::Offloads { ns, link } => kernel.disable_offloads(ns, link)?,
        Step::Capture { interfaces } => host.capture(kernel, interfaces)?,
        Step::Operational { ns, links } => kernel.wait_operational(ns, links)?,
        Step::Route { ns, via } => kernel.add_default_route(ns, *via)?,
        Step::Director {
            ns,
            engine,
            sysctls,
            services,
        } => {
            let directed = direct(ns, *engine, (services, sysctls), kernel, host.has_ipvs())?;
            host.directed(directed);
        }
        Step::Limits {
            node,
            group,
            limits,
        } => {
            let limited = limit((node, group, limits), kernel, host)?;
            host.limited(limited);
        }
        Step::Start { .. } | Step::Ready { .. } => {}
    }
    Ok(())
}

fn limit<K: Kernel>(
    (node, group, limits): (&str, &str, &cgroup::Limits),
    kernel: &mut K,
    host: &mut dyn Host<K>,
) -> Result<Limited> {
    let Placement {
        folders,
        mut lacking,
    } = host.cgroups().place(group, limits);
    let mut paths = Vec::with_capacity(folders.len());
    for folder in &folders {
        // A group that is in use is another lab's, so it must not get into the journal.
        kernel.clear_cgroup(folder)?;
        let path = folder.path();
        host.journal(Undo::ControlGroup { path: path.clone() })?;
        lacking.extend(kernel.add_cgroup(folder)?);
        paths.push(path);
    }
    Ok(Limited {
        node: node.to_owned(),
        limits: *limits,
        folders: paths,
        lacking,
    })
}

fn direct<K: Kernel>(
    ns: &Ns,
    choice: EngineChoice,
    (services, sysctls): (&[ServiceSpec], &[Sysctl]),
    kernel: &mut K,
    has_ipvs: bool,
) -> Result<Directed> {
    let node = ns.to_string();
    let failed = |source| Error::Director {
        node: node.clone(),
        source,
    };
    let choice = match choice {
        EngineChoice::Auto => director::Choice::Auto,
        EngineChoice::Ipvs => director::Choice::Ipvs,
        EngineChoice::Nft => director::Choice::Nft,
    };
    let engine = director::choose(choice, has_ipvs, services).map_err(failed)?;
    let mut ignored = None;
    match engine.program(services).map_err(|e| failed(e.into()))? {
        Program::Nft(ruleset) => {
            kernel.apply_nft(ns, &ruleset)?;
            ignored = sysctls.first().map(|s| s.key.clone());
        }
        Program::Ipvs(table) => {
            // The settings first, so that they hold from the first connection on.
            kernel.set_sysctls(ns, sysctls)?;
            kernel.apply_ipvs(ns, &table)?;
        }
    }
    let reason = match (choice, has_ipvs) {
        (director::Choice::Auto, false) => "this kernel has no IPVS",
        (director::Choice::Auto, true) => "this kernel has IPVS",
        _ => "the lab file asks for it",
    };
    Ok(Directed {
        engine: engine.name(),
        reason: reason.to_owned(),
        ignored,
        services: services.to_vec(),
        node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Recorder;

    #[derive(Default)]
    struct Double {
        notes: Vec<String>,
        has_ipvs: bool,
        layout: cgroup::Layout,
        limited: Vec<Limited>,
    }

    impl Host<Recorder> for Double {
        fn journal(&mut self, undo: Undo) -> Result<()> {
            self.notes.push(format!("{undo:?}"));
            Ok(())
        }
        fn capture(&mut self, kernel: &mut Recorder, interfaces: &[CaptureTarget]) -> Result<()> {
            kernel.calls.push(format!("capture {}", interfaces.len()));
            Ok(())
        }
        fn has_ipvs(&mut self) -> bool {
            self.has_ipvs
        }
        fn cgroups(&mut self) -> cgroup::Layout {
            self.layout.clone()
        }
        fn limited(&mut self, limited: Limited) {
            self.limited.push(limited);
        }
        fn directed(&mut self, directed: Directed) {
            self.notes
                .push(format!("{} runs {}", directed.node, directed.engine));
        }
        fn progress(&mut self, _: usize) {}
    }

    fn plan() -> Plan {
        let text = include_str!("../../labs/dsr.toml");
        let lab = crate::lab::load("labs/dsr.toml".as_ref(), text).unwrap();
        crate::plan::build(&lab)
    }

    fn position(calls: &[String], what: &str) -> usize {
        calls
            .iter()
            .position(|c| c == what)
            .unwrap_or_else(|| panic!("no {what:?} in {calls:#?}"))
    }

    #[test]
    fn captures_precede_links_and_addresses_precede_services() {
        let (mut kernel, mut host) = (Recorder::default(), Double::default());
        network(&plan(), &mut kernel, &mut host, &AtomicBool::new(false)).unwrap();
        let calls = &kernel.calls;
        let capture = position(calls, "capture 6");
        // A frame can pass when both ends of a veth pair are up: the switch's come last.
        let ports: Vec<_> = (0..calls.len())
            .filter(|n| calls[*n].starts_with("_switch: set ") && calls[*n].ends_with(" up"))
            .collect();
        assert_eq!(ports.len(), 7, "six interfaces and the host's");
        assert!(ports.iter().all(|port| *port > capture), "{calls:#?}");
        let director = position(calls, "lb: apply nft ruleset");
        assert!(position(calls, "lb: add address 172.28.128.3/24 to eth1") < director);
        assert!(position(calls, "server1: apply nft ruleset") < director);
        assert!(position(calls, "lb: set net.ipv4.conf.eth1.rp_filter=0") < director);
        let plan = plan();
        let link = plan.host_links().next().unwrap();
        let undo = Undo::HostLink {
            mark: "nslab lab dsr".into(),
            name: "dsr-servers".into(),
            mac: link.mac,
        };
        assert_eq!(host.notes, [format!("{undo:?}"), "lb runs nft".to_owned()]);
    }

    fn with_ipvs(lab: &str, text: &str) -> (Recorder, Double) {
        let lab = crate::lab::load(lab.as_ref(), text).unwrap();
        let (mut kernel, mut host) = (Recorder::default(), Double::default());
        host.has_ipvs = true;
        let plan = crate::plan::build(&lab);
        network(&plan, &mut kernel, &mut host, &AtomicBool::new(false)).unwrap();
        (kernel, host)
    }

    #[test]
    fn settings_of_ipvs_come_with_it_after_everything_that_servers_need() {
        let text = include_str!("../../labs/tun.toml").replace(
            "[nodes.lb]",
            "[nodes.lb]\nsysctls = { \"net.ipv4.vs.pmtu_disc\" = 0, \"net.ipv4.tcp_ecn\" = 0 }",
        );
        let (kernel, host) = with_ipvs("labs/tun.toml", &text);
        let calls = &kernel.calls;
        let last = calls.len();
        assert_eq!(
            calls[last - 2..],
            [
                "lb: set net.ipv4.vs.pmtu_disc=0",
                "lb: apply ipvs, 1 services, 2 servers"
            ]
        );
        let near = "server1: add tunnel ipip1 type ipip local 172.28.140.4 remote any";
        let far = "server2: add tunnel ipip1 type ipip local 172.28.141.5 remote any";
        for (node, tunnel) in [("server1", near), ("server2", far)] {
            let made = position(calls, tunnel);
            let vip = position(
                calls,
                &format!("{node}: add address 172.28.140.100/32 to ipip1"),
            );
            let up = position(calls, &format!("{node}: set ipip1 up"));
            let silent = position(
                calls,
                &format!("{node}: set net.ipv4.conf.all.arp_ignore=1"),
            );
            assert!(silent < made && made < vip && vip < up, "{calls:#?}");
        }
        assert!(!calls.iter().any(|c| c.contains("apply nft")), "{calls:#?}");
        assert_eq!(host.notes, ["lb runs ipvs"]);
    }

    #[test]
    fn nat_needs_nothing_of_its_servers() {
        let (kernel, _) = with_ipvs("labs/nat.toml", include_str!("../../labs/nat.toml"));
        let calls = &kernel.calls;
        position(calls, "lb: set net.ipv4.ip_forward=1");
        position(calls, "lb: apply ipvs, 1 services, 2 servers");
        let vip = |c: &&String| c.contains("192.168.30.3/32") || c.contains("arp_ignore=1");
        assert_eq!(calls.iter().find(vip), None);
        assert!(!calls.iter().any(|c| c.contains("apply nft")), "{calls:#?}");
    }

    #[test]
    fn what_neither_engine_can_do_ends_it() {
        let text = include_str!("../../labs/nat.toml");
        let lab = crate::lab::load("labs/nat.toml".as_ref(), text).unwrap();
        let (mut kernel, mut host) = (Recorder::default(), Double::default());
        let plan = crate::plan::build(&lab);
        let failed = network(&plan, &mut kernel, &mut host, &AtomicBool::new(false)).unwrap_err();
        let failed = failed.to_string();
        assert!(
            failed.starts_with(
                "director lb: this kernel has no IPVS (CONFIG_IP_VS, module ip_vs), which service \
                 \"web\" needs: load it with `modprobe ip_vs`"
            ),
            "{failed}"
        );
        assert!(failed.contains("method \"nat\""), "{failed}");
    }

    #[test]
    fn whatever_fails_the_host_link_is_in_the_journal_before_it_is_made() {
        let mut whole = Recorder::default();
        network(
            &plan(),
            &mut whole,
            &mut Double::default(),
            &AtomicBool::new(false),
        )
        .unwrap();
        let calls = whole
            .calls
            .iter()
            .filter(|c| !c.starts_with("capture"))
            .count();
        for n in 1..=calls {
            let (mut kernel, mut host) = (
                Recorder {
                    fail_at: Some(n),
                    ..Recorder::default()
                },
                Double::default(),
            );
            let failed = network(&plan(), &mut kernel, &mut host, &AtomicBool::new(false));
            // The capture call takes a number of its own in the recorder without being able to fail.
            if failed.is_ok() {
                continue;
            }
            assert_eq!(kernel.calls.len(), n, "goes on after a failure");
            let touched = kernel
                .calls
                .iter()
                .any(|c| c.starts_with("add veth (host)"));
            let noted = host.notes.iter().any(|n| n.starts_with("HostLink"));
            assert!(
                noted || !touched,
                "call {n}: host link made but not in the journal"
            );
        }
    }

    fn limited_plan() -> Plan {
        let text = "name = \"x\"\n[networks.n]\nsubnet = \"10.0.0.0/24\"\n[nodes.a]\n\
                    interfaces.eth0 = { network = \"n\", address = \"10.0.0.1\" }\n\
                    limits = { memory = \"64m\", pids = 20 }\ncommand = [\"sleep\", \"1\"]\n[nodes.b]\n\
                    interfaces.eth0 = { network = \"n\", address = \"10.0.0.2\" }\n\
                    limits = { cpus = 0.5 }\n";
        crate::plan::build(&crate::lab::load("x.toml".as_ref(), text).unwrap())
    }

    fn limited_host() -> Double {
        Double {
            layout: cgroup::Layout::unified("/cg"),
            ..Double::default()
        }
    }

    #[test]
    fn limits_are_set_for_each_node_that_has_some_when_its_network_is_complete() {
        let (mut kernel, mut host) = (Recorder::default(), limited_host());
        let plan = limited_plan();
        network(&plan, &mut kernel, &mut host, &AtomicBool::new(false)).unwrap();
        let last = kernel.calls.len();
        assert_eq!(
            kernel.calls[last - 4..],
            [
                "clear cgroup /cg/nslab/x/a",
                "add cgroup /cg/nslab/x/a memory.max=67108864 memory.swap.max=0 pids.max=20",
                "clear cgroup /cg/nslab/x/b",
                "add cgroup /cg/nslab/x/b cpu.max=50000 100000",
            ]
        );
        let folders: Vec<_> = host
            .limited
            .iter()
            .map(|l| (&*l.node, &l.folders[0]))
            .collect();
        let path = |path: &str| PathBuf::from(path);
        assert_eq!(
            folders,
            [("a", &path("/cg/nslab/x/a")), ("b", &path("/cg/nslab/x/b"))]
        );
        // Before anything runs.
        let steps: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            steps[steps.len() - 3..],
            [
                "a: limit memory 64 MiB, 20 tasks by control group nslab/x/a",
                "b: limit 0.5 CPUs by control group nslab/x/b",
                "a: start its main process, `sleep 1`",
            ]
        );
    }

    #[test]
    fn whatever_fails_a_group_is_in_the_journal_when_it_is_made_and_not_when_it_is_anothers() {
        let mut whole = Recorder::default();
        let go = AtomicBool::new(false);
        network(&limited_plan(), &mut whole, &mut limited_host(), &go).unwrap();
        for n in 1..=whole.calls.len() {
            let mut host = limited_host();
            let mut kernel = Recorder {
                fail_at: Some(n),
                ..Recorder::default()
            };
            // Captures cannot fail here, and take a number.
            if network(&limited_plan(), &mut kernel, &mut host, &go).is_ok() {
                continue;
            }
            for node in ["a", "b"] {
                let noted = format!("ControlGroup {{ path: \"/cg/nslab/x/{node}\" }}");
                let noted = host.notes.contains(&noted);
                let made = format!("add cgroup /cg/nslab/x/{node} ");
                let made = kernel.calls.iter().any(|c| c.starts_with(&made));
                assert_eq!(noted, made, "call {n}: {:?}", kernel.calls);
            }
        }
    }

    #[test]
    fn a_machine_without_controllers_goes_on_and_says_what_is_not_kept() {
        let (mut kernel, mut host) = (Recorder::default(), Double::default());
        let plan = limited_plan();
        network(&plan, &mut kernel, &mut host, &AtomicBool::new(false)).unwrap();
        assert!(!kernel.calls.iter().any(|c| c.contains("cgroup")));
        assert!(host.notes.is_empty(), "{:?}", host.notes);
        let lacking: Vec<_> = host
            .limited
            .iter()
            .flat_map(|l| l.lacking.clone())
            .collect();
        let lack = |c| (c, Lack::NotMounted);
        assert_eq!(
            lacking,
            [Controller::Memory, Controller::Pids, Controller::Cpu].map(lack)
        );
    }

    #[test]
    fn cancelling_stops_before_the_next_step() {
        let (mut kernel, mut host) = (Recorder::default(), Double::default());
        let result = network(&plan(), &mut kernel, &mut host, &AtomicBool::new(true));
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(kernel.calls.is_empty());
    }
}
