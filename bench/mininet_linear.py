"""The reference: start and stop Mininet's `linear,K,N` on Open vSwitch's userspace datapath.

    unshare --net --mount --pid --fork --mount-proc python bench/mininet_linear.py K N DIRECTORY [--ping-all]

Run it in namespaces of its own, as above: Mininet puts its switches and their links into the namespace
that it runs in. No netctl code is used. The programs of Open vSwitch and `mnexec` must be in the PATH, their
schema in OVS_PKGDATADIR; DIRECTORY must be empty. Prints one line of JSON: seconds to start and to stop, and
with --ping-all those of Mininet's pingAll() in between: one ping for each ordered pair of hosts.

What is timed is Mininet's own work in a running Python, with an Open vSwitch that runs already: starting
Python, importing Mininet and starting ovsdb-server and ovs-vswitchd is not counted against it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Mininet imports distutils
    from mininet.log import setLogLevel
    from mininet.net import Mininet
    from mininet.node import OVSSwitch
    from mininet.topo import LinearTopo
    from mininet.util import specialClass

FILES = 16384
"""Open files that Mininet wants to be allowed; it keeps four for every node."""


def start_open_vswitch(directory: Path) -> None:
    """One ovsdb-server and one ovs-vswitchd for all switches, as a machine that runs Mininet has."""
    for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"):
        os.environ[name] = str(directory)
    schema = Path(os.environ["OVS_PKGDATADIR"], "vswitch.ovsschema")
    database = directory / "conf.db"
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ovsdb-tool", "create", str(database), str(schema)],
        ["ovsdb-server", str(database), f"--remote=punix:{directory}/db.sock", "--detach", "--no-chdir",
         "--pidfile", "--log-file"],
        ["ovs-vsctl", "--no-wait", "init"],
        ["ovs-vswitchd", "--detach", "--no-chdir", "--pidfile", "--log-file"],
    ):  # fmt: skip
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def main() -> None:
    """Start, stop, print."""
    switches, hosts, directory = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    setLogLevel("error")
    start_open_vswitch(directory)
    # What Mininet.init() does beyond this would change limits of the whole machine.
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    Mininet.inited = True

    began = time.monotonic()
    net = Mininet(
        topo=LinearTopo(k=switches, n=hosts),
        switch=specialClass(OVSSwitch, defaults={"datapath": "user", "failMode": "standalone"}),
        controller=None,
        autoSetMacs=True,
    )
    net.start()
    started = time.monotonic()
    # Whether it works is looked at between the two times: a reference that did nothing would be a fast one.
    heard = net.hosts[0].cmd("ping -c 1 -W 5 ", net.hosts[-1].IP())
    if "1 received" not in heard:
        sys.exit(f"Mininet's first and last host do not reach each other: {heard}")
    times = {"start": started - began}
    if sys.argv[4:] == ["--ping-all"]:
        pinging = time.monotonic()
        lost = net.pingAll()
        times["ping_all"] = time.monotonic() - pinging
        if lost:
            sys.exit(f"Mininet's pingAll lost {lost} % of its pings")
    stopping = time.monotonic()
    net.stop()
    times["stop"] = time.monotonic() - stopping
    print(json.dumps(times))


if __name__ == "__main__":
    main()
