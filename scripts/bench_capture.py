"""`scripts/bench capture`: recording at full load, against one tcpdump an interface."""

import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

from bench_common import call, fail, progress, settle, verdict

CPU_AIM = 0.8
LAB = "bench-capture"
# Client and router on one network, router, director and two realservers on the other; as
# labs/dsr.toml, but what serves is as fast as can be. `sh` keeps iperf3's two connections together.
LAB_FILE = """
name = "bench-capture"
[networks.internet]
subnet = "192.168.10.0/24"
[networks.servers]
subnet = "172.28.128.0/24"
[nodes.client]
interfaces.eth1 = { network = "internet", address = "192.168.10.168" }
gateway = "router"
[nodes.router]
forward = true
interfaces.eth1 = { network = "internet", address = "192.168.10.2" }
interfaces.eth2 = { network = "servers", address = "172.28.128.2" }
[nodes.lb]
interfaces.eth1 = { network = "servers", address = "172.28.128.3" }
""" + "".join(f"""
[nodes.server{n}]
interfaces.eth1 = {{ network = "servers", address = "172.28.128.{n + 3}" }}
gateway = "router"
command = ["sh", "-c", '''
iperf3 -s >/dev/null &
mkdir -p /tmp/www && head -c 4000 /dev/zero >/tmp/www/page
cat >/tmp/nginx.conf <<END
daemon off;
pid /tmp/nginx.pid;
error_log /dev/null;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  keepalive_requests 1000000;
  server {{ listen 8080; root /tmp/www; }}
}}
END
exec nginx -e /dev/null -c /tmp/nginx.conf''']
ready = {{ tcp = 8080 }}
""" for n in (1, 2)) + """
[services.web]
vip = "172.28.128.3"
port = 8080
director = "lb"
scheduler = "rr"
method = "dr"
accept = "redirect"
engine = "nft"
servers = ["server1", "server2"]
[services.iperf]
vip = "172.28.128.3"
port = 5201
director = "lb"
scheduler = "sh"
method = "dr"
accept = "redirect"
engine = "nft"
servers = ["server1", "server2"]
"""
INTERFACES = [("client", "eth1"), ("router", "eth1"), ("router", "eth2"), ("lb", "eth1"),
              ("server1", "eth1"), ("server2", "eth1")]
LOADS = {"iperf3": ["iperf3", "-c", "VIP", "-n", "{bytes}"],
         "wrk": ["wrk", "-t1", "-c32", "-d{seconds}s", "http://VIP:8080/page"]}
PACKAGES = {"iperf3": "iperf3", "wrk": "wrk", "nginx": "nginx-light", "tcpdump": "tcpdump",
            "nsenter": "util-linux"}


class Result:
    """What one contender did with one load."""

    def __init__(self, cpu, crossed, recorded, dropped, size):
        self.cpu, self.crossed, self.recorded = cpu, crossed, recorded
        self.dropped, self.size = dropped, size

    def cpu_per_million(self):
        return self.cpu / self.recorded * 1e6


class Nslab:
    """`nslab up` with captures: the supervisor is what is measured."""

    name = "nslab"
    how = []

    def __init__(self, options, work):
        self.exchange = work / "exchange"
        self.binary = options.binary

    def start(self):
        state = json.loads(pathlib.Path(f"/run/nslab/{LAB}/state.json").read_text())
        return [state["supervisor"]["pid"]]

    def stop(self):
        stats = json.loads(subprocess.run([self.binary, "capture", "--json"], check=True,
                                          capture_output=True, text=True).stdout)
        recorded = sum(s["packets"] for s in stats)
        dropped = sum(s["dropped"] + s["unwritten"] for s in stats)
        return recorded, dropped, size_of(self.exchange)


class Tcpdump:
    """`nslab up --no-capture`, and a tcpdump for each interface."""

    how = ["--no-capture"]

    def __init__(self, work, flags=()):
        self.name = " ".join(["tcpdump", *flags])
        self.folder, self.flags, self.running = work / "tcpdump", flags, []

    def start(self):
        self.folder.mkdir()
        for node, interface in INTERFACES:
            file = self.folder / f"{node}_{interface}.pcap"
            argv = ["nsenter", f"--net=/run/nslab/{LAB}/ns/{node}", "tcpdump", "-i", interface,
                    "-Z", "root", "-w", file, *self.flags]
            self.running.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        for process in self.running:
            if "listening on" not in process.stderr.readline():
                fail("tcpdump does not listen")
        return [process.pid for process in self.running]

    def stop(self):
        recorded = dropped = 0
        for process in self.running:
            process.send_signal(signal.SIGINT)
            for line in process.communicate()[1].splitlines():
                if line.endswith("captured"):
                    recorded += int(line.split()[0])
                if line.endswith("dropped by kernel"):
                    dropped += int(line.split()[0])
        self.running = []
        size = size_of(self.folder)
        shutil.rmtree(self.folder)
        return recorded, dropped, size


def size_of(folder):
    return sum(f.stat().st_size for f in folder.rglob("*.pcap"))


def cpu(pids):
    """Seconds on a processor, user and system, of all threads of these processes."""
    return sum(int(stat.read_text().split()[0]) for pid in pids
               for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def crossed():
    """Frames that the interfaces have sent and received, by their own counters."""
    frames = 0
    for node, interface in INTERFACES:
        out = subprocess.run(["nsenter", f"--net=/run/nslab/{LAB}/ns/{node}", "ip", "-s", "-j",
                              "link", "show", interface], check=True, capture_output=True).stdout
        stats = json.loads(out)[0]["stats64"]
        frames += stats["rx"]["packets"] + stats["tx"]["packets"]
    return frames


def run(contender, load, options, work):
    """One lab, one contender, one load."""
    exchange = work / "exchange"
    call([options.binary, "up", "--exchange", exchange, *contender.how, work / "capture.toml"])
    try:
        # Each connection's first packets meet cold caches and ARP.
        call([options.binary, "exec", "client", "curl", "-fsS", "-o", "/dev/null",
              "http://VIP:8080/page"])
        pids = contender.start()
        before, frames = cpu(pids), crossed()
        call([options.binary, "exec", "client", *load])
        time.sleep(1.5)  # tcpdump's kernel buffer is handed over after a second
        spent, frames = cpu(pids) - before, crossed() - frames
        recorded, dropped, size = contender.stop()
    finally:
        call([options.binary, "down", LAB])
    if exchange.exists():
        shutil.rmtree(exchange)
    settle()
    return Result(spent, frames, recorded, dropped, size)


def capture(options, work):
    missing = sorted({p for tool, p in PACKAGES.items() if not shutil.which(tool)})
    if missing:
        print(f"\ncapture under load: not run: apt-get install {' '.join(missing)}")
        return
    (work / "capture.toml").write_text(LAB_FILE)
    runs = options.runs or (2 if options.quick else 5)
    amount = {"bytes": "100M" if options.quick else "300M", "seconds": 3 if options.quick else 6}
    contenders = [Nslab(options, work), Tcpdump(work), Tcpdump(work, ("-U",))]
    for name, load in LOADS.items():
        load = [word.format(**amount) for word in load]
        results = {c.name: [] for c in contenders}
        for turn in range(runs):
            for contender in contenders:
                progress(f"{name}, run {turn + 1} of {runs}: {contender.name}")
                results[contender.name].append(run(contender, load, options, work))
        progress("")
        show(name, " ".join(load), runs, results)


def show(name, load, runs, results):
    print(f"\n{load} through the VIP, captured on {len(INTERFACES)} interfaces, median of {runs}")
    print(f"  {'':12} {'cpu':>9} {'frames':>9} {'cpu/million':>12} {'lost':>9} {'bytes':>9}")
    medians = {}
    for contender, rows in results.items():
        of = {key: statistics.median(getattr(row, key) for row in rows)
              for key in ("cpu", "recorded", "dropped", "size")}
        of["cost"] = statistics.median(row.cpu_per_million() for row in rows)
        medians[contender] = of
        print(f"  {contender:12} {of['cpu']:7.2f} s {of['recorded']:9.0f} {of['cost']:10.2f} s"
              f" {of['dropped']:9.0f} {of['size'] / 1e6:6.0f} MB")
    ours, theirs = medians["nslab"], medians["tcpdump"]
    ratio = ours["cost"] / theirs["cost"]
    print(f"  aim: {name}: processor time a frame at most {CPU_AIM} x tcpdump's:"
          f" {ratio:.2f} x, {verdict(ratio <= CPU_AIM)}")
    print(f"  aim: {name}: frames lost no more than tcpdump's:"
          f" {verdict(ours['dropped'] <= theirs['dropped'])}")
    # Whoever records must have each frame in a file or count it.
    for row in results["nslab"]:
        if row.recorded + row.dropped < row.crossed:
            sys.exit(f"bench: {row.crossed} frames crossed, and nslab accounts for"
                     f" {row.recorded} + {row.dropped}")
