//! A lab of images alone (`labs/nginx.toml`), and what one does in it with the tools of images/net-tools.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{Bench, text};
use crate::recipes;

/// A lab that is up, with a store of its own.
pub struct Lab {
    pub bench: Bench,
    environment: Vec<(&'static str, String)>,
    name: &'static str,
}

impl Lab {
    /// The lab file of labs/ with the nft engine, whatever this kernel has.
    pub fn up(name: &'static str, store: &Path, environment: &[(&'static str, String)]) -> Self {
        let bench = Bench::new();
        let mut environment = environment.to_vec();
        environment.push(("NSLAB_STORE", store.display().to_string()));
        let lab = Self {
            bench,
            environment,
            name,
        };
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("labs")
            .join(format!("{name}.toml"));
        let toml = std::fs::read_to_string(file).unwrap();
        assert!(toml.contains("engine = \"auto\""), "{toml}");
        let path = lab.bench.path(&format!("{name}.toml"));
        std::fs::write(&path, toml.replace("engine = \"auto\"", "engine = \"nft\"")).unwrap();
        lab.nslab(&["up", path.to_str().unwrap()]);
        lab
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bench.nslab();
        command.args(words);
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    pub fn nslab(&self, words: &[&str]) -> String {
        succeeded(words, &self.command(words).output().unwrap())
    }

    /// What a command in a node prints, split at spaces.
    pub fn exec(&self, node: &str, words: &str) -> String {
        let words: Vec<_> = words.split(' ').collect();
        self.nslab(&[&["exec", node], &words[..]].concat())
    }

    /// A command in a node whose output is asked for later.
    fn start(&self, node: &str, words: &str) -> std::process::Child {
        let words: Vec<_> = words.split(' ').collect();
        self.command(&[&["exec", node], &words[..]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A command line of the shell's in a node, until it is killed.
    fn serve(&self, node: &str, line: &str) -> std::process::Child {
        self.command(&["exec", node, "sh", "-c", &format!("exec {line}")])
            .spawn()
            .unwrap()
    }

    /// Ends what was started, from inside: a client that is killed would leave it behind.
    fn end(&self, node: &str, program: &str, mut child: std::process::Child) {
        self.exec(node, &format!("killall {program}"));
        child.wait().unwrap();
    }

    /// A shell script in a node, with something on its standard input.
    fn script(&self, node: &str, script: &str, input: &[u8]) -> Output {
        let mut child = self
            .command(&["exec", node, "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Waits until a port of the node is listened on.
    fn listens(&self, node: &str, what: &str) {
        let script = format!(
            "for _ in $(seq 500); do ss -Hlntu | grep -q '{what} ' && exit; sleep 0.02; done; exit 1"
        );
        let output = self.script(node, &script, b"");
        assert!(output.status.success(), "nobody listens on {what}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down", self.name]).output();
    }
}

pub fn succeeded(words: &[&str], output: &Output) -> String {
    assert!(
        output.status.success(),
        "{words:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn a_lab_of_images_alone() {
    let dir = crate::open_dir();
    let root = dir.path().join("store");
    drop(recipes::store(&root));
    let lab = Lab::up("nginx", &root, &[]);

    load_is_balanced(&lab);
    pings_and_paths(&lab);
    frames_are_seen(&lab);
    names_are_asked_for(&lab);
    streams(&lab);
    certificates(&lab);

    // Nobody needs the host: not even its shell is there.
    assert_eq!(lab.exec("client", "readlink /usr/bin/sh"), "bash\n");
    let proof = lab.nslab(&["proof"]);
    assert!(
        proof.contains("\nPROVEN (declared: method dr)\n"),
        "{proof}"
    );

    // Last: its frames are many.
    let load = "wrk -t 1 -c 4 -d 1s -H Connection:close http://VIP/healthz";
    let load = lab.exec("client", load);
    assert!(load.contains("Requests/sec:"), "{load}");
    assert!(!load.contains("Non-2xx"), "{load}");

    let logs = lab.command(&["logs", "server1"]).output().unwrap();
    assert!(
        text(&logs.stdout).contains("\"GET / HTTP/1.1\" 200 "),
        "{logs:?}"
    );
    lab.nslab(&["down"]);
    the_documented_recipe_works(dir.path(), &root);
}

/// The recipe that docs/recipes.md shows, word by word, on the net-tools of the same store.
fn the_documented_recipe_works(dir: &Path, store: &Path) {
    let docs = include_str!("../../docs/recipes.md");
    let block = |language: &str| {
        let start = format!("```{language}\n");
        docs.split(&start)
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("a block")
    };
    let folder = dir.join("my-client");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("image.toml"), block("toml")).unwrap();
    std::fs::write(folder.join("build.sh"), block("bash")).unwrap();
    let store = nslab::image::Store::open(store).unwrap();
    let image = store.build(&folder, false, &mut |_| {}).expect("build");
    let [mine, net_tools] = &image.layers[..] else {
        panic!("{image:?}");
    };
    assert!(mine.join("usr/bin/fping").is_file());
    assert!(net_tools.join("usr/bin/curl").is_file());
    // What is below is not there twice, and its accounts are kept.
    assert!(
        std::fs::read_dir(mine.join("usr/lib"))
            .unwrap()
            .all(|multiarch| {
                std::fs::read_dir(multiarch.unwrap().path())
                    .unwrap()
                    .next()
                    .is_none()
            })
    );
    let accounts = std::fs::read_to_string(mine.join("etc/passwd")).unwrap();
    assert!(accounts.contains("\ntcpdump:"), "{accounts}");
}

fn load_is_balanced(lab: &Lab) {
    let answers: Vec<_> = (0..4)
        .map(|_| lab.exec("client", "curl -sS -i --max-time 20 http://VIP/"))
        .collect();
    let header = |answer: &str| {
        let line = answer
            .lines()
            .find_map(|l| l.strip_prefix("X-Realserver: "));
        line.unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let servers: Vec<_> = answers.iter().map(|a| header(a)).collect();
    assert_ne!(servers[0], servers[1]);
    assert_eq!(servers[..2], servers[2..]);
    for (answer, server) in answers.iter().zip(&servers) {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let row = |what: &str, value: &str| {
            let row = format!("<tr><th scope=\"row\">{what}</th><td>{value}");
            assert!(answer.contains(&row), "no {row} in {answer}");
        };
        row("realserver", &format!("{server}</td>"));
        row("asked for (Host header)", "VIP</td>");
        row("client", "192.168.20.168:");
    }
    let health = lab.exec("client", "curl -sS http://server1:8080/healthz");
    assert_eq!(health, "ok server1\n");
    let users = lab.exec("server1", "ps -o user,args");
    assert!(users.contains("root     nginx: master process"), "{users}");
    assert!(users.contains("www-data nginx: worker process"), "{users}");
}

fn pings_and_paths(lab: &Lab) {
    let ping = lab.exec("client", "ping -c 2 -i 0.2 server2");
    assert!(
        ping.contains("2 packets transmitted, 2 received, 0% packet loss"),
        "{ping}"
    );
    // The shell's are the real ones, too.
    let ping = lab.script("client", "ping -V && nc -h", b"");
    assert!(text(&ping.stdout).contains("iputils"), "{ping:?}");
    assert!(text(&ping.stderr).contains("OpenBSD netcat"), "{ping:?}");
    let arping = lab.exec("client", "arping -c 1 router");
    assert!(arping.contains("Received 1 response(s)"), "{arping}");
    let path = lab.exec("client", "traceroute -n server1");
    let hops: Vec<_> = path
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(hops, ["192.168.20.2", "172.29.128.4"], "{path}");
    let path = lab.exec("client", "mtr -n -r -c 1 -G 0.5 server1");
    assert!(path.contains("2.|-- 172.29.128.4"), "{path}");
    let path = lab.exec("client", "tracepath -n server1");
    assert!(path.contains("pmtu 1500 hops 2 back 2"), "{path}");
    let route = lab.exec("client", "ip -j route get 172.29.128.4");
    assert!(route.contains("\"gateway\":\"192.168.20.2\""), "{route}");
}

fn frames_are_seen(lab: &Lab) {
    let capture = lab.start("client", "tcpdump -l -n -i eth1 -c 2 icmp");
    // It says so when it has its socket; to read that it would have to be waited for, so ping goes on.
    let ping = lab.start("client", "ping -i 0.2 router");
    let output = capture.wait_with_output().unwrap();
    lab.end("client", "ping", ping);
    let seen = succeeded(&["tcpdump"], &output);
    assert!(
        seen.contains("IP 192.168.20.168 > 192.168.20.2: ICMP echo request"),
        "{seen}"
    );
    assert!(
        seen.contains("IP 192.168.20.2 > 192.168.20.168: ICMP echo reply"),
        "{seen}"
    );
}

/// A name server of one line, made with socat: any question of one name gets one address.
fn names_are_asked_for(lab: &Lab) {
    // In one write at the end: each would be a datagram.
    let answer = r"cat > /tmp/answer <<'EOF'
q=/tmp/q.$$
dd bs=512 count=1 of=$q 2> /dev/null
{ head -c 2 $q
  printf '\201\200\0\1\0\1\0\0\0\0'
  tail -c +13 $q
  printf '\300\14\0\1\0\1\0\0\0\74\0\4\12\11\10\7'; } > $q.answer
cat $q.answer
EOF";
    lab.script("router", answer, b"");
    let server = lab.serve(
        "router",
        "socat UDP4-LISTEN:53,fork,reuseaddr EXEC:sh\\ /tmp/answer",
    );
    lab.listens("router", ":53");
    let dig = lab.exec("client", "dig +noedns +tries=5 @router www.lab.test");
    lab.end("router", "socat", server);
    assert!(dig.contains("status: NOERROR"), "{dig}");
    assert!(
        dig.contains("www.lab.test.\t\t60\tIN\tA\t10.9.8.7"),
        "{dig}"
    );
}

fn streams(lab: &Lab) {
    let server = lab.start("router", "iperf3 -s -1");
    lab.listens("router", ":5201");
    let client = lab.exec("client", "iperf3 -J -n 4M -c router");
    let client: serde_json::Value = serde_json::from_str(&client).unwrap();
    let bytes = |which: &str| client["end"][which]["bytes"].as_u64().unwrap();
    assert!(bytes("sum_sent") >= 4 << 20, "{client}");
    // The server counts what has arrived when the client says that it is done.
    assert!(bytes("sum_received") > 0, "{client}");
    succeeded(&["iperf3"], &server.wait_with_output().unwrap());

    let server = lab.start("router", "nc -l 7000");
    lab.listens("router", ":7000");
    let sent = lab.script("client", "nc -N router 7000", b"by nc\n");
    succeeded(&["nc"], &sent);
    let got = server.wait_with_output().unwrap();
    assert_eq!(succeeded(&["nc"], &got), "by nc\n");
}

/// curl knows authorities: it refuses a certificate of somebody's own because of who made it, and
/// takes it when it is told to.
fn certificates(lab: &Lab) {
    let dir = crate::open_dir();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (key, cert) = (file("key"), file("cert"));
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=router \
                 -addext subjectAltName=DNS:router -keyout";
    let words = words.split(' ').filter(|w| !w.is_empty());
    crate::tool(
        Command::new("openssl")
            .args(words)
            .args([&key, "-out", &cert]),
    );
    let both = [std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap()].concat();
    for node in ["client", "router"] {
        succeeded(&["cat"], &lab.script(node, "cat > /tmp/pem", &both));
    }
    let page = r"cat > /tmp/page <<'EOF'
read x
printf 'HTTP/1.0 200 OK\r\n\r\nby TLS\n'
EOF";
    lab.script("router", page, b"");
    let server = lab.serve(
        "router",
        "socat OPENSSL-LISTEN:443,cert=/tmp/pem,verify=0,fork,reuseaddr EXEC:sh\\ /tmp/page",
    );
    lab.listens("router", ":443");
    let refused = lab.script("client", "curl -sS https://router/", b"");
    // 60: it knows authorities, and not this one; 77 would be that it knows none.
    assert_eq!(refused.status.code(), Some(60), "{refused:?}");
    let taken = lab.exec("client", "curl -sS --cacert /tmp/pem https://router/");
    lab.end("router", "socat", server);
    assert_eq!(taken, "by TLS\n");
}
