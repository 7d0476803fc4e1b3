"""Up and down of K hosts with 10 VMs each, against start and stop of Mininet's `linear,K,10`.

Mininet's switches share one ovs-vswitchd and are not waited for; a lab of netctl has an Open vSwitch and an
ovn-controller in every host, two top-of-rack switches, a CVM in every host and OVN's central daemons, and
`up` means that every port is bound, every flow is in and the tunnels are warm. What is timed of netctl is the
whole process, of Mininet only its own work (mininet_linear.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench import intents, machine
from bench.figures import Breakdown, Figure, Result, Sample, ratio

VMS = 10
UP_LIMIT, DOWN_LIMIT = 1.0, 0.3
TARGET_SIZE = 32
"""The number of hosts that the targets are about."""

UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Run:
    """One up and down of netctl; `cpu` is what netctl and the daemons used until the lab was ready."""

    up: machine.Timed
    down: machine.Timed
    cpu: Mapping[str, float]


def measure(sizes: Sequence[int], runs: int, progress: Callable[[str], None]) -> Result:
    """Measure; Mininet and netctl in turn."""
    machine.need("mnexec", "mininet")
    machine.need("ifconfig", "net-tools")
    figures: list[Figure] = []
    breakdowns: list[Breakdown] = []
    for size in sizes:
        ours: list[Run] = []
        theirs: list[tuple[float, float]] = []
        for number in range(1, runs + 1):
            progress(f"up and down: {size} hosts x {VMS} VMs, run {number} of {runs}, Mininet")
            machine.settle()
            theirs.append(_mininet(size))
            progress(f"up and down: {size} hosts x {VMS} VMs, run {number} of {runs}, netctl")
            machine.settle()
            ours.append(_netctl(size))
        what = f"{size} hosts x {VMS} VMs"
        samples = (
            ("up", UP_LIMIT, [run.up.seconds for run in ours], [up for up, _ in theirs]),
            ("down", DOWN_LIMIT, [run.down.seconds for run in ours], [down for _, down in theirs]),
        )
        for name, limit, seconds, of_mininet in samples:
            mine, reference = Sample(seconds), Sample(of_mininet)
            figures.append(
                Figure(
                    f"{what}, {name}",
                    ratio(mine, reference),
                    "x",
                    limit if size == TARGET_SIZE else None,
                    ours=mine,
                    reference=reference,
                    measured_in="s",
                )
            )
        breakdowns.append(
            _breakdown(f"where the time of up goes: {what}", "s", [run.up.phases for run in ours])
        )
        breakdowns.append(_breakdown(f"CPU until ready: {what}", "CPU s", [run.cpu for run in ours]))
    return Result("Up and down", "Mininet linear,K,10 on userspace OVS", figures, breakdowns)


def _netctl(size: int) -> Run:
    with machine.lab(intents.rack(f"bench{os.getpid()}-{size}", size, VMS)) as lab:
        up = lab.up()
        # Ready means ready: the very first packet on the VLAN, and the first one routed in the VPC.
        lab.ping("vm1-0", f"vm{size}-8")
        lab.ping("vm1-1", f"vm{size}-3")
        cpu: dict[str, float] = {"netctl": up.cpu}
        for node, daemons in sorted(lab.processes().items()):
            for daemon in daemons:
                name = f"{daemon.program} (central)" if node.startswith("_") else daemon.program
                cpu[name] = cpu.get(name, 0.0) + daemon.cpu()
        return Run(up, lab.down(), cpu)


def _mininet(size: int) -> tuple[float, float]:
    with machine.scratch() as directory:
        script = machine.HERE / "mininet_linear.py"
        said = machine.run(
            [*UNSHARE, sys.executable, script, str(size), str(VMS), directory], machine.environment()
        )
    times = json.loads(said.splitlines()[-1])
    return times["start"], times["stop"]


def _breakdown(what: str, unit: str, runs: Sequence[Mapping[str, float]]) -> Breakdown:
    names = dict.fromkeys(name for run in runs for name in run)
    return Breakdown(what, unit, {name: Sample([run.get(name, 0.0) for run in runs]) for name in names})
