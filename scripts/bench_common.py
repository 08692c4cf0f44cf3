"""What the parts of scripts/bench share."""

import socket
import subprocess
import sys
import tempfile
import time


def fail(text):
    sys.exit(f"bench: {text}")


def call(argv, **options):
    """Runs a command and gives its seconds; its output is shown only if it fails."""
    with tempfile.TemporaryFile() as output:  # a pipe would stay open in what it leaves running
        start = time.perf_counter()
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output,
                              stderr=subprocess.STDOUT, **options)
        seconds = time.perf_counter() - start
        if done.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")
            fail(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{text}")
    return seconds


def settle():
    """Waits until the kernel has removed every network namespace that was given up.

    It removes them in the background, in order (cleanup_net() in net/core/net_namespace.c). So a
    link into a last one is gone after all others are.
    """
    call(["ip", "netns", "add", "settle"])
    call(["ip", "link", "add", "settle0", "type", "veth", "peer", "name", "settle1",
          "netns", "settle"])
    call(["ip", "netns", "del", "settle"])
    while True:
        try:
            socket.if_nametoindex("settle0")
        except OSError:
            return
        time.sleep(0.002)


def address(n):
    """The n-th address of 10.0.0.0/22, from 1."""
    return f"10.0.{n // 256}.{n % 256}"


def ms(seconds):
    return f"{seconds:8.2f} s " if seconds >= 10 else f"{seconds * 1000:8.1f} ms"


def verdict(good):
    return "met" if good else "NOT MET"


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
