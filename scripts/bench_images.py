"""`scripts/bench images`: images unpacked, started and kept, against other container tools."""

import ctypes
import http.client
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import threading
import time

from bench_common import address, call, fail, ms, progress, settle, verdict

REPO = pathlib.Path(__file__).resolve().parent.parent
UNPACK_AIM = 0.8  # of the wall time of tar
START_AIM = 1.0  # of crun run
COPY_AIM = 100 * 1024  # bytes on disk that one more node may take
PACKAGES = {"umoci": "umoci", "crun": "crun", "runc": "runc", "podman": "podman",
            "skopeo": "skopeo", "mmdebstrap": "mmdebstrap", "zstd": "zstd", "tar": "tar",
            "nsenter": "util-linux", "mkfs.ext4": "e2fsprogs", "du": "coreutils"}
PAGE = "/thredds/catalog/catalog.html"
LIMIT = 60  # seconds until a server must answer


def prepare(options):
    """What needs the host's network: a Debian root, and the Tomcat image in the store."""
    missing = sorted({p for tool, p in PACKAGES.items() if not shutil.which(tool)})
    if missing:
        fail(f"missing tools: apt-get install --no-install-recommends {' '.join(missing)}")
    if not program(options).exists():
        fail(f"there is no {program(options)}; --build makes it")
    tar = debian_root()
    if not tar.exists():
        progress(f"making {tar}")
        tar.parent.mkdir(parents=True, exist_ok=True)
        part = tar.with_suffix(".part")
        call(["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", suite(), part])
        part.rename(tar)
    progress("building the image tomcat, if the store lacks it")
    call([options.binary, "image", "build", REPO / "images/tomcat"])
    progress("")


def program(options):
    """benches/images.rs, the newest of them."""
    found = [p for p in (options.binary.parent / "deps").glob("images-*") if not p.suffix]
    return max(found, key=lambda p: p.stat().st_mtime, default=options.binary.parent / "deps/images-*")


def suite():
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def debian_root():
    return REPO / "target/bench" / f"{suite()}.tar"


class Disk:
    """A new ext4 on the disk that the benchmark is on, mounted.

    What is there already would count: ext4 without a journal is slow where files were deleted a
    moment ago (recently_deleted() in fs/ext4/ialloc.c), which the run before did.
    """

    def __init__(self, folder):
        self.folder, self.file = folder, folder.with_suffix(".ext4")

    def __enter__(self):
        self.folder.mkdir()
        with self.file.open("wb") as file:
            file.truncate(2**32)
        call(["mkfs.ext4", "-q", "-F", self.file])
        call(["sync", "-f", self.file])
        call(["mount", "-o", "loop", self.file, self.folder])
        return self.folder

    def __exit__(self, *_):
        # Lazily: after a failure something may still run there.
        call(["umount", "-l", self.folder])
        self.folder.rmdir()
        self.file.unlink()


class Kit:
    """The images as OCI layouts and as bundles, and a store of nslab's own."""

    def __init__(self, options, work, disk):
        self.options, self.outer, self.work = options, work, disk
        self.program = program(options)
        self.debian, self.zstd, self.tomcat = disk / "debian", disk / "zstd", disk / "tomcat"
        progress("making images and bundles")
        call([options.binary, "image", "build", "--output", self.tomcat, REPO / "images/tomcat"])
        call(["umoci", "init", "--layout", self.debian])
        image = f"{self.debian}:latest"
        call(["umoci", "new", "--image", image])
        call(["umoci", "raw", "add-layer", "--image", image, debian_root()])
        call(["skopeo", "copy", "-q", "--dest-compress-format", "zstd", f"oci:{image}",
              f"oci:{self.zstd}:latest"])
        self.bundles = {}
        for layout in (self.debian, self.tomcat):
            self.bundles[layout] = disk / f"bundle-{layout.name}"
            call(["umoci", "unpack", "--image", f"{layout}:latest", self.bundles[layout]])
        self.store = disk / "store"
        os.environ["NSLAB_STORE"] = str(self.store)
        for layout in (self.debian, self.tomcat):
            call([self.program, "unpack", layout])

    def bundle(self, layout, args=None, netns=None):
        """A bundle whose container runs `args`, or what the image says, in a network namespace."""
        file = self.bundles[layout] / "config.json"
        config = json.loads(file.read_text())
        config["process"]["terminal"] = False
        if args:
            config["process"]["args"] = args
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace.pop("path", None)
                if netns:
                    namespace["path"] = f"/run/netns/{netns}"
        file.write_text(json.dumps(config))
        return self.bundles[layout]


def layer(layout):
    """The largest blob of a layout: these images have one layer."""
    return max((layout / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)


def timed(argv, **environment):
    """Wall and processor seconds of a command and all that it waits for."""
    start = time.perf_counter()
    pid = os.posix_spawnp(str(argv[0]), [str(word) for word in argv], {**os.environ, **environment},
                          file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                                        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    if status:
        fail(f"{' '.join(map(str, argv))} ended with status {status}")
    return seconds, usage.ru_utime + usage.ru_stime


def spread(times):
    return f"{ms(statistics.median(times))}  ({ms(min(times)).strip()} to {ms(max(times)).strip()})"


def in_turn(what, runs, contenders):
    """Runs contenders in turn, once more than asked for: what the first meets is not warm yet."""
    results = {name: [] for name in contenders}
    for turn in range(runs + 1):
        for name, run in contenders.items():
            progress(f"{what}, run {turn} of {runs}: {name}")
            result = run()
            if turn:
                results[name].append(result)
    progress("")
    return results


def unpack(kit):
    runs = kit.options.runs or (5 if kit.options.quick else 15)

    def into_new(argv, folder=False):
        with Disk(kit.outer / "new") as disk:
            to = disk / "unpacked"
            if folder:
                to.mkdir()
            argv = [to if word is None else word for word in argv]
            wall, cpu = timed(argv, NSLAB_STORE=str(to))
            return wall, cpu, call(["sync", "-f", to])

    for name, layout in (("tomcat", kit.tomcat), ("debian", kit.debian), ("debian, zstd", kit.zstd)):
        blob = layer(layout)
        zstd = layout is kit.zstd
        tar = "tar --zstd" if zstd else "tar xzf"
        flag = "--zstd" if zstd else "--gzip"
        contenders = {"nslab": lambda layout=layout: into_new([kit.program, "unpack", layout]),
                      tar: lambda blob=blob, flag=flag: into_new(
                          ["tar", "-x", flag, "-f", blob, "-C", None], folder=True)}
        if not zstd:  # Debian's umoci has no zstd
            contenders["umoci unpack"] = lambda layout=layout: into_new(
                ["umoci", "unpack", "--image", f"{layout}:latest", None])
        results = in_turn(f"unpack {name}", runs, contenders)
        print(f"\nunpack {name} ({blob.stat().st_size / 1e6:.0f} MB), median of {runs}")
        print(f"  {'':14} {'processor':>11} {'wall':>11}  {'(least to most)':22} {'and sync':>11}")
        medians = {}
        for contender, rows in results.items():
            wall, cpu, sync = zip(*rows)
            both = [w + s for w, s in zip(wall, sync)]
            medians[contender] = [statistics.median(c) for c in (cpu, wall, both)]
            print(f"  {contender:14} {ms(medians[contender][0])} {spread(wall):37}"
                  f" {ms(medians[contender][2])}")
        ours, theirs = medians["nslab"], medians[tar]
        ratio = ours[1] / theirs[1]
        print(f"  nslab, which syncs: {ratio:.2f} x the time of {tar},"
              f" {ours[2] / theirs[2]:.2f} x with its sync, {ours[0] / theirs[0]:.2f} x its processor time")
        if "umoci unpack" in medians:
            print(f"  umoci: {medians['umoci unpack'][1] / ours[1]:.1f} x the time of nslab")
        if not zstd:
            print(f"  aim: at most {UNPACK_AIM} x the time of {tar}: {verdict(ratio <= UNPACK_AIM)}")


def start(kit):
    runs = kit.options.runs or (30 if kit.options.quick else 200)
    bundle = kit.bundle(kit.debian, ["/bin/true"])
    folder = kit.work / "node"
    folder.mkdir()
    node = subprocess.Popen([kit.program, "start", kit.options.binary, kit.debian, folder,
                             "/bin/true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ended = []

    def nslab():
        node.stdin.write("\n")
        node.stdin.flush()
        line = node.stdout.readline().split()
        if len(line) != 2:
            fail("the node did not start")
        ended.append(float(line[0]))
        return float(line[1])

    bare = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc",
            f"--root={bundle / 'rootfs'}", "/bin/true"]
    contenders = {"nslab node": nslab,
                  "crun run": lambda: timed(["crun", "run", "--bundle", bundle, "bench"])[0],
                  "runc run": lambda: timed(["runc", "run", "--bundle", bundle, "bench"])[0],
                  "unshare": lambda: timed(bare)[0]}
    try:
        results = in_turn("start", runs, contenders)
    finally:
        node.stdin.close()
        node.wait()
    settle()
    print(f"\nstart of /bin/true in a new node or container, until it is gone, median of {runs}")
    for contender, times in results.items():
        print(f"  {contender:16} {spread(times)}")
    print(f"  nslab node       {spread(ended[1:])} until the end of /bin/true is known")
    ratio = statistics.median(results["nslab node"]) / statistics.median(results["crun run"])
    print(f"  aim: at most {START_AIM} x crun run: {ratio:.2f} x, {verdict(ratio <= START_AIM)}")


LAB = "bench-images"


def lab(kit, layout, nodes, command):
    """A lab file of so many nodes of one image."""
    lines = [f'name = "{LAB}"', "[networks.lan]", 'subnet = "10.0.0.0/22"']
    for n in range(1, nodes + 1):
        lines += [f"[nodes.n{n}]", f'image = "{layout}"',
                  f'interfaces.eth1 = {{ network = "lan", address = "{address(n)}" }}']
        if command:
            lines.append(f"command = {json.dumps(command)}")
    file = kit.work / f"{LAB}-{nodes}.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def state():
    return json.loads(pathlib.Path(f"/run/nslab/{LAB}/state.json").read_text())


def execs(kit):
    runs = kit.options.runs or (50 if kit.options.quick else 300)
    sleep = ["/bin/sleep", "1000"]
    bundle = kit.bundle(kit.debian, sleep)
    nslab = str(kit.options.binary)
    call([nslab, "up", "--no-capture", lab(kit, kit.debian, 1, sleep)])
    call(["ip", "netns", "add", "bench"])
    try:
        for tool in ("crun", "runc"):
            call([tool, "run", "--detach", "--bundle", bundle, f"bench-{tool}"])
        pid = json.loads(subprocess.run(["crun", "state", "bench-crun"], check=True,
                                        capture_output=True).stdout)["pid"]
        ways = {"nslab exec": [nslab, "exec", "n1", "/bin/true"],
                "crun exec": ["crun", "exec", "bench-crun", "/bin/true"],
                "runc exec": ["runc", "exec", "bench-runc", "/bin/true"],
                "nsenter": ["nsenter", "--target", str(pid), "--all", "/bin/true"],
                "ip netns exec": ["ip", "netns", "exec", "bench", "/bin/true"],
                "true alone": ["/bin/true"]}
        results = in_turn("exec", runs, {name: lambda argv=argv: timed(argv)[0]
                                         for name, argv in ways.items()})
    finally:
        for tool in ("crun", "runc"):
            subprocess.run([tool, "delete", "--force", f"bench-{tool}"], check=False)
        call(["ip", "netns", "del", "bench"])
        call([nslab, "down", LAB])
    print(f"\nexec of /bin/true in a running node or container, median of {runs}")
    for contender, times in results.items():
        print(f"  {contender:16} {spread(times)}")
    ratio = statistics.median(results["nslab exec"]) / statistics.median(results["crun exec"])
    print(f"  nslab exec: {ratio:.2f} x crun exec")


def setns(path):
    """Moves the calling thread into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(fd, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


class Answer(threading.Thread):
    """Asks a server in a network namespace, that may not be there yet, until it answers with 200."""

    def __init__(self, netns):
        super().__init__(daemon=True)
        self.netns, self.at, self.start_at = netns, None, time.perf_counter()
        self.start()

    def run(self):
        inside = False
        while time.perf_counter() < self.start_at + LIMIT:
            try:
                if not inside:
                    setns(self.netns)
                    inside = True
                connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=5)
                connection.request("GET", PAGE)
                if connection.getresponse().status == 200:
                    self.at = time.perf_counter()
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.002)

    def seconds(self, since):
        self.join()
        if self.at is None:
            fail(f"no 200 in {self.netns} within {LIMIT} s")
        return self.at - since


def tomcat(kit):
    runs = kit.options.runs or (3 if kit.options.quick else 9)
    nslab = kit.options.binary
    file = lab(kit, kit.tomcat, 1, None)
    storage = kit.work / "podman"
    podman = ["podman", "--root", storage / "root", "--runroot", storage / "run",
              "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
              "--events-backend", "none"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    call([*podman, "pull", "--quiet", f"oci:{kit.tomcat}:latest"])
    image = subprocess.run([*podman, "images", "--quiet"], check=True, capture_output=True,
                           text=True).stdout.split()[0]

    def ours():
        # What an earlier run pinned there must not be taken for this one's.
        path = f"/run/nslab/{LAB}/ns/n1"
        start_at = time.perf_counter()
        answer = Answer(path)
        call([nslab, "up", "--no-capture", file])
        try:
            return answer.seconds(start_at)
        finally:
            call([nslab, "down", LAB])
            settle()

    def theirs(argv, stop):
        call(["ip", "netns", "add", "bench"])
        call(["ip", "-n", "bench", "link", "set", "lo", "up"])
        start_at = time.perf_counter()
        answer = Answer("/run/netns/bench")
        running = subprocess.Popen(argv, start_new_session=True, **quiet)
        try:
            return answer.seconds(start_at)
        finally:
            call(stop)
            running.wait()
            call(["ip", "netns", "del", "bench"])
            settle()

    bundle = kit.bundle(kit.tomcat, netns="bench")
    contenders = {"nslab up": ours}
    for tool in ("crun", "runc"):
        contenders[f"{tool} run"] = lambda tool=tool: theirs(
            [tool, "run", "--bundle", bundle, "bench"], [tool, "kill", "bench", "KILL"])
    contenders["podman run"] = lambda: theirs(
        [*podman, "run", "--rm", "--name", "bench", "--network", "ns:/run/netns/bench", image],
        [*podman, "kill", "bench"])
    results = in_turn("tomcat", runs, contenders)
    print(f"\nTomcat until its first 200, median of {runs}")
    for contender, times in results.items():
        print(f"  {contender:16} {spread(times)}")
    own = statistics.median(results["nslab up"])
    print("  nslab up: " + ", ".join(f"{own / statistics.median(times):.2f} x {name}"
                                     for name, times in results.items() if name != "nslab up"))


def rollup(pid):
    """Resident and proportional bytes of a process (proc_pid_smaps_rollup(5))."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024
             for line in text.splitlines()[1:] if line.endswith("kB")}
    return sizes["Rss"], sizes["Pss"]


def children(pid):
    return [int(word) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()]


def on_disk(path):
    out = subprocess.run(["du", "-s", "-B1", path], check=True, capture_output=True, text=True)
    return int(out.stdout.split()[0])


def many(kit):
    few, lots = 2, 20 if kit.options.quick else 200
    nslab = kit.options.binary
    exchange = kit.work / "exchange"
    rows = []
    image = on_disk(kit.store / "layers")
    for captures in (False, True):
        for nodes in (few, lots):
            progress(f"{nodes} nodes")
            how = ["--exchange", exchange] if captures else ["--no-capture"]
            up = call([nslab, "up", *how, lab(kit, kit.debian, nodes, ["/bin/sleep", "1000"])])
            try:
                time.sleep(1)
                pid = state()["supervisor"]["pid"]
                inits = [rollup(child)[1] for child in children(pid)]
                if len(inits) != nodes:
                    fail(f"{len(inits)} inits instead of {nodes}")
                rows.append((nodes, captures, up, *rollup(pid), sum(inits) / nodes,
                             on_disk(kit.store / "nodes") / nodes))
            finally:
                call([nslab, "down", LAB])
                settle()
    progress("")
    shutil.rmtree(exchange, ignore_errors=True)
    with Disk(kit.outer / "new") as disk:
        copied = call(["cp", "-a", kit.bundles[kit.debian] / "rootfs", disk])
        size = on_disk(disk / "rootfs")
    mib = 2**20
    print(f"\nnodes of one image ({image / mib:.0f} MiB in the store with its neighbour)")
    print(f"  {'':20} {'up':>11} {'supervisor':>16} {'(shared fairly)':>16} {'a node: init':>13}"
          f" {'on disk':>10}")
    for nodes, captures, up, rss, pss, init, disk in rows:
        name = f"{nodes} nodes" + (", captures" if captures else "")
        print(f"  {name:20} {ms(up)} {rss / mib:12.1f} MiB {pss / mib:12.1f} MiB"
              f" {init / mib:9.2f} MiB {disk / 1024:6.0f} KiB")
    for captures in (False, True):
        small, large = [row for row in rows if row[1] == captures]
        more = large[0] - small[0]
        print(f"  one more node{' with capture' if captures else ''}:"
              f" {(large[2] - small[2]) / more * 1000:.1f} ms,"
              f" {(large[4] - small[4]) / more / 1024:.0f} KiB of the supervisor's,"
              f" {large[5] / 1024:.0f} KiB for its init, {large[6] / 1024:.0f} KiB on disk")
    print(f"  a copy of its root instead: {ms(copied).strip()},"
          f" {size / mib:.0f} MiB on disk")
    print(f"  aim: one more node costs no copy: {verdict(rows[1][6] <= COPY_AIM)}")


PARTS = {"unpack": unpack, "start": start, "exec": execs, "tomcat": tomcat, "many": many}


def images(options, work):
    # crun 1.8 refuses version 1 and 2 of control groups side by side; the mounts are the
    # benchmark's own.
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], stderr=subprocess.DEVNULL, check=False)
    print("\n" + ", ".join(version(tool) for tool in ("crun", "runc", "podman", "umoci", "tar")))
    before = os.environ.get("NSLAB_STORE")
    try:
        with Disk(work / "disk") as disk:
            kit = Kit(options, work, disk)
            for part in options.only or PARTS:
                PARTS[part](kit)
    finally:
        if before is None:
            del os.environ["NSLAB_STORE"]
        else:
            os.environ["NSLAB_STORE"] = before
    print(f"load at the end: {os.getloadavg()[0]:.1f}")


def version(tool):
    out = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    return out.splitlines()[0]
