//! Groups of the whole machine: made where they can be, left alone, removed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::{self, Bench, host, same_host, text, until};
use super::{children, group_of, groups, hierarchies, init, lab, up};

#[test]
fn groups_go_with_down_also_when_the_supervisor_is_dead() {
    let bench = Bench::new();
    let before = host();
    let all = "limits = { memory = \"64m\", cpus = 1, pids = 30 }\ncommand = [\"sleep\", \"1000\"]";
    let (name, text) = lab("dead", all);
    up(&bench, &text);
    // Two labs at once: one keeps what it has when the other goes.
    let (other, second) = lab("other", all);
    up(&bench, &second.replace("10.84.1.", "10.84.2."));
    let (one, two) = (
        groups(&format!("nslab/{name}/a")),
        groups(&format!("nslab/{other}/a")),
    );
    assert_eq!(one.len(), two.len());
    assert!(!one.is_empty());

    let pid = bench.json(&format!("ps --json --lab {name}"))[0]["supervisor"]["pid"].clone();
    let pid = Pid::from_raw(pid.as_i64().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    fs::remove_file(bench.path(&format!("{name}.toml"))).unwrap();
    until("the supervisor is gone", || {
        bench.run(&format!("ps --lab {name}")).status.code() != Some(0)
    });
    bench.ok(&format!("down {name}"));
    assert_eq!(groups(&name), [""; 0]);
    assert_eq!(groups(&format!("nslab/{other}/a")), two);
    bench.ok("exec a true");
    bench.ok("down");
    assert_eq!(groups(&other), [""; 0]);
    same_host(&before);
}

#[test]
fn a_group_of_another_lab_of_the_same_name_is_left_alone() {
    let bench = Bench::new();
    let (name, text) = lab(
        "twice",
        "limits = { pids = 30 }\ncommand = [\"sleep\", \"1000\"]",
    );
    up(&bench, &text);
    let init = init(&bench, 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let output = bench
        .nslab()
        .env("NSLAB_RUN", elsewhere.path().join("run"))
        .args(["up", &format!("{name}.toml")])
        .output()
        .unwrap();
    let said = common::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: cannot take the control group ")
            && said.contains(&format!(
                "/nslab/{name}/a, which another lab of this name still uses: "
            )),
        "{said}"
    );
    assert!(!elsewhere.path().join("run").exists(), "{said}");
    assert!(group_of(&init, "pids").ends_with(&format!("nslab/{name}/a")));
    bench.ok("exec a true");
    bench.ok("down");
}

/// Runs nslab where a shell has changed the mounts of the cgroup file systems.
fn with_mounts(bench: &Bench, script: &str, args: &[&str]) -> Output {
    let nslab = bench.nslab();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"])
        .arg(nslab.get_program())
        .args(args)
        .current_dir(bench.dir.path());
    for (name, value) in nslab.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

#[test]
fn a_machine_without_controllers_says_so_and_goes_on() {
    let bench = Bench::new();
    let (name, text_) = lab("none", "limits = { memory = \"64m\", pids = 30 }");
    let file = bench.lab(&text_);
    let file = file.to_str().unwrap();
    let hidden = "mount -t tmpfs tmpfs /sys/fs/cgroup";
    let output = with_mounts(&bench, hidden, &["up", file]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for key in ["memory", "pids"] {
        let (why, advice) = if hierarchies()[key].0 == 1 {
            (
                format!("the {key} controller is in a hierarchy that is mounted nowhere"),
                format!(
                    "mount it: mkdir -p /sys/fs/cgroup/{key} && mount -t cgroup -o {key} cgroup \
                     /sys/fs/cgroup/{key}"
                ),
            )
        } else {
            (
                "no cgroup file system is mounted".to_owned(),
                "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
            )
        };
        let warning = format!("warning: limits.{key} of node a is not kept: {why}; {advice}\n");
        assert!(said.contains(&warning), "{said}");
        let doctor = with_mounts(&bench, hidden, &["doctor", "--json"]);
        let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let checks = doctor["checks"].as_array().unwrap();
        let check = checks
            .iter()
            .find(|c| c["subject"] == format!("limits.{key}"))
            .unwrap();
        assert_eq!(check["state"], "lacking");
        assert_eq!(check["detail"], format!("not kept: {why}"));
        assert_eq!(check["advice"], advice);
    }
    bench.ok("exec a true");
    let limits = &bench.json("ps --json")[0]["nodes"][0]["limits"];
    assert_eq!(limits["not_kept"], serde_json::json!(["memory", "pids"]));
    assert!(bench.ok("ps").contains("(64.0M)"));
    assert_eq!(groups(&name), [""; 0]);
    bench.ok("down");
}

/// A cgroup namespace below the machine's root, as container engines make one for `--privileged`.
#[test]
fn a_container_says_how_its_processes_have_to_move_and_then_limits() {
    let (version, root) = hierarchies()["pids"].clone();
    if version == 1 {
        println!("version 1 has no such rule: scripts/test runs this again on version 2");
        return;
    }
    let bench = Bench::new();
    let (name, text_) = lab("ct", "limits = { memory = \"64m\", pids = 30 }");
    let file = bench.lab(&text_);
    let file = file.to_str().unwrap();
    fs::write(root.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    let container = root.join(format!("limits-container-{}", std::process::id()));
    fs::create_dir(&container).unwrap();
    let within = |then: &str| {
        format!(
            "echo 0 > {0}/cgroup.procs; exec unshare -C -m sh -ec 'umount {1}; mount -t cgroup2 ours {1}; \
             {then} exec \"$@\"' sh \"$@\"",
            container.display(),
            root.display()
        )
    };
    let output = with_mounts(&bench, &within(""), &["up", file]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (_, advice) = said.split_once("move them: ").expect(&said);
    let advice = advice.lines().next().unwrap();
    for key in ["memory", "pids"] {
        let warning = format!("warning: limits.{key} of node a is not kept: processes run in ");
        assert!(said.contains(&warning), "{said}");
    }
    bench.ok("down");

    // The loop also meets the process that has listed them for it, which is gone.
    let output = with_mounts(
        &bench,
        &within(&format!("set +e; {advice} 2>/dev/null; set -e;")),
        &["up", file],
    );
    let said = text(&output.stderr);
    assert!(
        output.status.success() && !said.contains("warning"),
        "{said}"
    );
    let group = container.join("nslab").join(&name).join("a");
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "30\n");
    bench.ok("down");
    assert!(!container.join("nslab").exists());
    for folder in [container.join("init"), container] {
        until("the container's groups are empty", || {
            fs::remove_dir(&folder).is_ok()
        });
    }
}

#[test]
fn read_only_groups_as_in_a_container_are_told() {
    let bench = Bench::new();
    let (name, text_) = lab("ro", "limits = { pids = 30 }");
    let file = bench.lab(&text_);
    let (_, root) = &hierarchies()["pids"];
    let root = root.display();
    let output = with_mounts(
        &bench,
        &format!("mount -o remount,bind,ro {root}"),
        &["up", file.to_str().unwrap()],
    );
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(&format!(
            "warning: limits.pids of node a is not kept: {root} is mounted read-only; a container \
             engine does that: "
        )),
        "{said}"
    );
    assert_eq!(groups(&name), [""; 0]);
    bench.ok("down");
}

#[test]
fn doctor_says_where_limits_are_kept() {
    let bench = Bench::new();
    let doctor = bench.json("doctor --json");
    for (controller, key) in [("memory", "memory"), ("cpu", "cpus"), ("pids", "pids")] {
        let (version, root) = &hierarchies()[controller];
        let mut folder = root.clone();
        if *version == 1 {
            folder.push(group_of("self", controller).trim_start_matches('/'));
        }
        let subject = format!("limits.{key}");
        let checks = doctor["checks"].as_array().unwrap();
        let check = checks.iter().find(|c| c["subject"] == subject).unwrap();
        let folder = folder.join("nslab");
        assert_eq!(check["state"], "ok", "{check}");
        assert_eq!(
            check["detail"],
            format!("cgroup version {version}, in {}", folder.display())
        );
    }
}

#[test]
fn a_group_that_somebody_removed_is_missed_by_exec() {
    let bench = Bench::new();
    let (name, text_) = lab(
        "gone",
        "limits = { pids = 30 }\ncommand = [\"sleep\", \"1000\"]",
    );
    up(&bench, &text_);
    let init = init(&bench, 0);
    let (_, root) = &hierarchies()["pids"];
    let mut group = groups(&format!("nslab/{name}/a")).into_iter();
    let group = group
        .rfind(|g| Path::new(g).join("pids.max").exists())
        .unwrap();
    for pid in [&init, &children(&init)[0]] {
        fs::write(root.join("cgroup.procs"), pid).unwrap();
    }
    until("the group can be removed", || {
        fs::remove_dir(&group).is_ok()
    });
    let said = bench.fails("exec a true", 125);
    assert!(
        said.starts_with(&format!(
            "nslab: exec: cannot join the control group {group} of node a: "
        )) && said.ends_with("if somebody removed it, `nslab down` and `up` make it again\n"),
        "{said}"
    );
    bench.ok("down");
}
