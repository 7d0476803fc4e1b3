"""VPCs: one VM more in a large one, and TCP connections through NAT.

    python -m bench.vpcs NICS      prints JSON: CPU milliseconds to load, compile and plan one VM more

The VM is added to a VPC with 1,000 NICs, and with ten times as many, in a process that has no rack: all of
its time is netctl's. With a rack it is 200 VMs on four hosts, timed from the start of `apply` to the first
answer.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from bench import intents, machine
from bench.figures import Breakdown, Figure, Result, Sample, ratio
from netctl.errors import ChangeError

NICS = 1_000
OWN_LIMIT, GROWTH_LIMIT = 50.0, 1.2
HOSTS, VMS_A_HOST = 4, 50
RATE, SECONDS = 64, 5.0
NAT_LIMIT = 1.5
"""How many times as long as without NAT a connection may take."""

SUBNETS = 10
NEW, ADDRESS, PORT = "new", "10.0.200.9", 5001

ASK = f"sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=20; until ping -c1 -W0.05 {ADDRESS}; do :; done"
"""Ask until somebody answers, and for the MAC address not only once a second."""


def measure(runs: int, progress: Callable[[str], None]) -> Result:
    """Measure all three."""
    small: list[dict[str, float]] = []
    large: list[dict[str, float]] = []
    for number in range(1, runs + 1):
        for nics, found in ((NICS, small), (10 * NICS, large)):
            progress(f"vpcs: one VM more than {nics:,}, run {number} of {runs}")
            found.append(json.loads(machine.run([sys.executable, "-m", "bench.vpcs", str(nics)])))
    own = Sample([sum(run.values()) for run in small])
    more = Sample([sum(run.values()) for run in large])
    figures = [
        Figure(f"one VM more than {NICS:,} NICs, netctl's own part", own, "CPU ms", OWN_LIMIT),
        Figure(
            f"one VM more than {10 * NICS:,} NICs, netctl's own part",
            ratio(more, own),
            "x",
            GROWTH_LIMIT,
            ours=more,
            reference=own,
            measured_in="CPU ms",
        ),
    ]
    parts = {name: Sample([run[name] for run in small]) for name in small[0]}
    breakdowns = [Breakdown(f"One VM more than {NICS:,} NICs", "CPU ms", parts)]
    first, phases = _first_packet(runs, progress)
    figures.append(
        Figure(f"one VM more than {HOSTS * VMS_A_HOST} on {HOSTS} hosts, to its first packet", first, "s")
    )
    breakdowns.append(Breakdown(f"`apply` of one VM more than {HOSTS * VMS_A_HOST}", "s", phases))
    figures += _connections(runs, progress)
    return Result("VPCs", f"{NICS:,} NICs; no NAT", figures, breakdowns)


def one_vpc(lab: str, hosts: int, nics: int) -> intents.Document:
    """VMs of one NIC each in ten subnets of one VPC."""
    return {
        "name": lab,
        "clusters": {
            f"pe{at // 32 + 1}": {"hosts": [f"hv{n + 1}" for n in range(at, min(at + 32, hosts))]}
            for at in range(0, hosts, 32)
        },
        "hosts": {f"hv{number + 1}": {} for number in range(hosts)},
        "vpcs": {"vpc": {}},
        "subnets": {
            f"net{number}": {"type": "overlay", "vpc": "vpc", "cidr": f"10.{number}.0.0/16"}
            for number in range(SUBNETS)
        },
        "vms": {
            f"vm{number}": {"host": f"hv{number % hosts + 1}", "nics": [{"subnet": f"net{number % SUBNETS}"}]}
            for number in range(nics)
        },
    }


def with_one_more(document: intents.Document) -> intents.Document:
    """The same with one VM more."""
    more = copy.deepcopy(document)
    more["vms"][NEW] = {"host": "hv1", "nics": [{"subnet": "net0", "ip": ADDRESS}]}
    return more


def once(nics: int) -> dict[str, float]:
    """CPU milliseconds of each part, with everything imported and the lab as it was before."""
    from netctl import intent as loading
    from netctl.compile import compile_intent
    from netctl.plan import plan

    document = one_vpc("large", max(1, nics // intents.VMS_A_HOST), nics)
    before = loading.loads(intents.text(document), "large.yaml")
    there = compile_intent(before, southbound="unix:/run/sb.sock")
    plan(there, there)
    text = intents.text(with_one_more(document))
    marks = [time.process_time()]
    after = loading.loads(text, "large.yaml", before.assignments)
    marks.append(time.process_time())
    wanted = compile_intent(after, southbound="unix:/run/sb.sock")
    marks.append(time.process_time())
    changes = plan(wanted, there)
    marks.append(time.process_time())
    assert 0 < len(list(changes)) < 10
    names = ("read and check the YAML", "compile", "plan")
    return {name: 1000 * (end - begin) for name, begin, end in zip(names, marks, marks[1:], strict=False)}


def _first_packet(runs: int, progress: Callable[[str], None]) -> tuple[Sample, dict[str, Sample]]:
    document = one_vpc(f"bench{os.getpid()}-v", HOSTS, HOSTS * VMS_A_HOST)
    times: list[float] = []
    phases: dict[str, list[float]] = {}
    with machine.lab(document) as lab:
        lab.up()
        for number in range(1, runs + 1):
            progress(f"vpcs: first packet of one VM more, run {number} of {runs}")
            lab.file.write_text(intents.text(with_one_more(document)))
            began = time.monotonic()
            asking = subprocess.Popen(
                ["ip", "netns", "exec", f"{lab.name}.vm0", "sh", "-c", ASK], stdout=subprocess.DEVNULL
            )
            took = lab.apply()
            try:
                asking.wait(timeout=60)
            except subprocess.TimeoutExpired:
                asking.kill()
                raise ChangeError("the VM that was added does not answer") from None
            times.append(time.monotonic() - began)
            for name, seconds in took.phases.items():
                phases.setdefault(name, []).append(seconds)
            lab.file.write_text(intents.text(document))
            lab.apply()
        lab.down()
    return Sample(times), {name: Sample(values) for name, values in phases.items()}


def _connections(runs: int, progress: Callable[[str], None]) -> list[Figure]:
    """Two ways out over one gateway host, one with NAT and one without; a VM on another host connects."""
    name = f"bench{os.getpid()}-n"
    outside = {"nat": ("203.0.113", 30), "plain": ("172.20.0", 31)}
    document: intents.Document = {
        "name": name,
        "hosts": {"hv1": {}, "hv2": {}},
        "subnets": {
            "app": {"type": "overlay", "vpc": "vpc", "cidr": "192.168.1.0/24"},
            **{
                way: {"type": "external", "vlan": vlan, "cidr": f"{net}.0/24", "gateway": f"{net}.1"}
                for way, (net, vlan) in outside.items()
            },
        },
        "vpcs": {
            "vpc": {
                "external": [
                    {"subnet": "nat", "gateway_hosts": ["hv1"]},
                    {"subnet": "plain", "nat": "false", "router_ip": "172.20.0.50", "gateway_hosts": ["hv1"]},
                ],
                "routes": [{"to": "0.0.0.0/0", "via": "nat"}],
                "routable": ["192.168.1.0/24"],
            }
        },
        "vms": {"app": {"host": "hv2", "nics": [{"subnet": "app"}]}},
        "physical": {
            "to-nat": {"switch": "tor1", "vlan": "30", "ip": "203.0.113.1/24"},
            "to-plain": {
                "switch": "tor1",
                "vlan": "31",
                "ip": "172.20.0.1/24",
                "routes": [{"to": "192.168.1.0/24", "via": "172.20.0.50"}],
            },
        },
    }
    found: dict[str, list[dict[str, float]]] = {way: [] for way in outside}
    script = str(machine.HERE / "connections.py")
    with machine.lab(document) as lab:
        lab.up()
        for number in range(1, runs + 1):
            for way, (net, _) in outside.items():
                progress(f"vpcs: {RATE} connections a second, {way}, run {number} of {runs}")
                found[way].append(_connect(f"{name}.app", f"{name}.to-{way}", f"{net}.1", script))
        lab.down()
    nat, plain = (Sample([run["median"] for run in found[way]]) for way in ("nat", "plain"))
    failed = Sample([run["failed"] for run in found["nat"]])
    return [
        Figure(
            f"{RATE} TCP connections a second through NAT, to the answer",
            ratio(nat, plain),
            "x",
            NAT_LIMIT,
            ours=nat,
            reference=plain,
            measured_in="ms",
        ),
        Figure(f"of {int(RATE * SECONDS)} connections through NAT that failed", failed, "", 0),
    ]


def _connect(client: str, server: str, address: str, script: str) -> dict[str, float]:
    inside = ("ip", "netns", "exec")
    serving = subprocess.Popen(
        [*inside, server, sys.executable, script, "serve", str(PORT)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        if serving.stdout.readline().strip() != "listening":
            raise ChangeError(f"the server in {server} does not start")
        words = ("connect", address, str(PORT), str(RATE), str(SECONDS))
        said = json.loads(machine.run([*inside, client, sys.executable, script, *words]))
    finally:
        serving.kill()
        serving.communicate()
    if not said["made"]:
        raise ChangeError(f"no connection from {client} to {address}")
    return {"median": said["milliseconds"][said["made"] // 2], "failed": said["failed"]}


if __name__ == "__main__":
    print(json.dumps(once(int(sys.argv[1]))))
