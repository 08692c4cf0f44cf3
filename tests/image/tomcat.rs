//! The Tomcat image, started.

use std::process::Command;

use nslab::image::Image;

use crate::recipes::{at_most, twice};
use crate::{open_dir, tool};

/// Runs in namespaces of its own with the image as its root, on a writable overlay: `$1` the layer,
/// `$2` a scratch folder, `$3` what to do when Tomcat answers, with its pid in `$java`.
const START: &str = r#"
set -eu
hostname server1
ip link set lo up
ip addr add 172.28.128.3/32 dev lo
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount --rbind /dev "$2/root/dev"
mount --rbind /proc "$2/root/proc"
chroot "$2/root" /usr/bin/env -i PATH=/usr/bin HEAP="$HEAP" JAVA_OPTS="$JAVA_OPTS" \
  /opt/tomcat/bin/run > "$2/log" 2> "$2/errors" &
java=$!
n=0
until curl -sf -o "$2/page" -L http://127.0.0.1:8080/thredds; do
  n=$((n + 1))
  if [ $n = 1500 ] || ! kill -0 $java; then cat "$2/log" "$2/errors"; exit 1; fi
  sleep 0.02
done
eval "$3"
"#;

/// What `script` prints while Tomcat runs.
fn with_tomcat(image: &Image, heap: &str, java_opts: &str, script: &str) -> String {
    let scratch = open_dir();
    tool(
        Command::new("unshare")
            .args(["-n", "-m", "-p", "-f", "-u", "--mount-proc", "--kill-child"])
            .args(["sh", "-c", START, "sh"])
            .arg(&image.layers[0])
            .arg(scratch.path())
            .arg(script)
            .env("HEAP", heap)
            .env("JAVA_OPTS", java_opts),
    )
}

#[test]
fn the_realserver_is_built_reproducibly_and_answers() {
    let built = twice("tomcat", &[]);
    // Issue 2: "87 MB or less".
    at_most(&built, 87_000_000);
    answers(&built.image);
    crate::export_runs::tomcat_answers(&built.dir.path().join("root"), &built.image.reference);
}

/// The redirect chain, the page, the headers, the log, and the class data archive in use.
fn answers(image: &Image) {
    let said = with_tomcat(
        image,
        "128m",
        // Its own log manager, or the shutdown of java.util.logging races with what is said while stopping.
        "-Xlog:class+load=info:file=/tmp/classes -Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager",
        r#"
        curl -s -L -D - -o "$2/page" -H 'Host: VIP:8080' --interface 172.28.128.3 \
          -w 'connects %{num_connects}\n' http://172.28.128.3:8080/thredds
        cat "$2/page"
        curl -s -o /dev/null -w 'missing %{http_code}\n' http://127.0.0.1:8080/thredds/missing
        echo "process $(readlink /proc/$java/exe | sed 's|.*/opt|/opt|')"
        kill $java; code=0; wait $java || code=$?; echo "code $code"
        echo "$(grep -c 'source: shared objects file (top)' "$2/root/tmp/classes") shared"
        grep -c 'nslab.Standin source: shared objects file (top)' "$2/root/tmp/classes"
        tail -n 1 "$2/log" | cut -d ' ' -f 2-
        grep -E ' (WARNING|SEVERE) |^Exception|^\[' "$2/errors" || echo quiet
        "#,
    );
    let said = said.replace('\r', "");
    let lines: Vec<&str> = said.lines().collect();
    let of = |word: &str| {
        lines
            .iter()
            .filter(|l| l.starts_with(word))
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("HTTP/1.1 "),
        ["HTTP/1.1 302 ", "HTTP/1.1 302 ", "HTTP/1.1 200 "],
        "{said}"
    );
    assert_eq!(
        of("Location: "),
        [
            "Location: /thredds/",
            "Location: /thredds/catalog/catalog.html"
        ],
        "{said}"
    );
    assert_eq!(of("Server: "), ["Server: server1"; 3]);
    assert_eq!(
        of("X-Realserver: "),
        ["X-Realserver: server1"; 2],
        "Tomcat's mapper gives the first"
    );
    assert_eq!(
        of("connects "),
        ["connects 1"],
        "one connection for all three"
    );
    assert!(
        said.contains("This is a stand-in for a THREDDS Data Server"),
        "{said}"
    );
    let row = |what: &str| {
        let start = format!("<tr><th scope=\"row\">{what}</th><td>");
        lines
            .iter()
            .find_map(|l| l.strip_prefix(&start)?.strip_suffix("</td></tr>"))
            .unwrap_or_else(|| panic!("no row {what} in {said}"))
    };
    assert_eq!(row("realserver"), "server1");
    assert_eq!(row("asked for (Host header)"), "VIP:8080");
    assert_eq!(row("local address of the socket"), "172.28.128.3:8080");
    assert!(row("client").starts_with("172.28.128.3:"), "{said}");
    assert_eq!(of("missing "), ["missing 404"]);
    assert_eq!(of("process "), ["process /opt/jre/bin/java"]);
    assert_eq!(of("code "), ["code 143"], "ended by SIGTERM");
    let end = lines
        .iter()
        .position(|l| l.starts_with("code "))
        .expect("code");
    let shared: u32 = lines[end + 1]
        .trim_end_matches(" shared")
        .parse()
        .expect("a number");
    assert!(shared > 500, "the class data archive is not used: {said}");
    assert_eq!(
        lines[end + 2],
        "1",
        "the stand-in is not in the archive: {said}"
    );
    assert!(
        lines[end + 3].contains(" \"GET /thredds/missing HTTP/1.1\" 404 "),
        "no access log: {said}"
    );
    assert_eq!(lines[end + 4], "quiet");
}
