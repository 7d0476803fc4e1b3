"""TCP throughput across two hosts, against the same daemons wired by hand (handwired.sh).

A lab of netctl and the hand-wired racks are up at the same time, all with the bonds on eth0 and the same
buffers, and one stream at a time runs in one of them, forwards through the list and then backwards. The CPUs
of one machine do the work of four switches and of both guests: what is measured is what a packet costs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import intents, machine
from bench.figures import Figure, Result, Sample, ratio
from dataplane import buffers
from netctl.errors import ChangeError

LIMIT = 0.98
PORT = 5001
SEPARATOR_OF = {"netctl": ".", "ovn": "-", "plain": "-"}
NETWORKS = {"vlan": ("VLAN", "10.10.0.12"), "vpc": ("VPC over Geneve", "192.168.1.12")}
HANDWIRED = {"ovn": "OVN and OVS wired by hand", "plain": "OVS alone wired by hand, no OVN"}
NODES = ("hv1", "hv2", "tor1", "tor2")


@dataclass(frozen=True)
class Rack:
    """Two hosts with VMs `vlan1`, `vlan2`, `vpc1`, `vpc2`, however they came about."""

    kind: str
    prefix: str
    directory: Path

    def namespace(self, node: str) -> str:
        """The network namespace of a node."""
        return self.prefix + SEPARATOR_OF[self.kind] + node

    def use_first_uplink(self) -> None:
        """Let the bonds of both hosts send over eth0: another way through the switches is another cost."""
        for host in ("hv1", "hv2"):
            (control,) = (self.directory / host).glob("ovs-vswitchd.*.ctl")
            machine.run(
                ["ovs-appctl", "-t", control, "bond/set-active-member", "br0-up", "eth0"],
                machine.environment(),
            )

    def stream(self, network: str, seconds: float) -> tuple[float, int]:
        """Mbit/s from the VM on the first host to that on the second, and the retransmissions."""
        script = machine.HERE / "stream.py"
        receiver = subprocess.Popen(
            self._inside(f"{network}2", sys.executable, str(script), "receive", str(PORT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert receiver.stdout is not None
            if receiver.stdout.readline().strip() != "listening":
                raise ChangeError(f"the receiver in {self.namespace(f'{network}2')} does not start")
            said = machine.run(
                self._inside(
                    f"{network}1",
                    *(sys.executable, str(script), "send", NETWORKS[network][1], str(PORT), str(seconds)),
                )
            )
            receiver.wait(timeout=machine.LIMIT)
        finally:
            receiver.kill()
            receiver.communicate()
        found = json.loads(said)
        return found["bytes"] * 8 / found["seconds"] / 1e6, found["retransmits"]

    def _inside(self, node: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(node), *command]


def measure(runs: int, seconds: float, progress: Callable[[str], None]) -> Result:
    """Measure; one stream at a time, each rack in turn."""
    with ExitStack() as stack:
        progress("throughput: bringing up the racks")
        racks = [
            stack.enter_context(_netctl()),
            *(stack.enter_context(_handwired(kind)) for kind in HANDWIRED),
        ]
        for rack in racks:
            rack.use_first_uplink()
            for network in NETWORKS:
                rack.stream(network, 0.5)  # flows into the caches, and past every first time
        speeds: dict[tuple[str, str], list[float]] = {}
        retransmits: dict[tuple[str, str], int] = {}
        for network in NETWORKS:
            for number in range(1, runs + 1):
                progress(f"throughput: {network}, run {number} of {runs}")
                for rack in racks if number % 2 else reversed(racks):
                    speed, again = rack.stream(network, seconds)
                    speeds.setdefault((network, rack.kind), []).append(speed)
                    key = (network, rack.kind)
                    retransmits[key] = retransmits.get(key, 0) + again
    figures = []
    for network, (name, _) in NETWORKS.items():
        ours = Sample(speeds[network, "netctl"])
        for kind, what in HANDWIRED.items():
            theirs = Sample(speeds[network, kind])
            figures.append(
                Figure(
                    f"{name}: {what}",
                    ratio(ours, theirs),
                    "x",
                    LIMIT if kind == "ovn" else None,
                    at_least=True,
                    ours=ours,
                    reference=theirs,
                    measured_in="Mbit/s",
                    note=""
                    if not retransmits[network, kind]
                    else f"reference: {retransmits[network, kind]} retransmitted",
                )
            )
        figures.append(
            Figure(f"{name}: retransmitted segments", Sample([retransmits[network, "netctl"]]), "", 0)
        )
    return Result("TCP throughput across two hosts", "the same daemons wired by hand", figures)


@contextmanager
def _netctl() -> Iterator[Rack]:
    with machine.lab(intents.pair(f"bench{os.getpid()}-tcp")) as lab:
        lab.up()
        yield Rack("netctl", lab.name, machine.RUN_FILES / lab.name)


@contextmanager
def _handwired(kind: str) -> Iterator[Rack]:
    with machine.scratch() as scratch:
        rack = Rack(kind, f"bench{os.getpid()}{kind}", scratch / "run")
        script = [machine.HERE / "handwired.sh"]
        try:
            machine.run([*script, "up", rack.prefix, rack.directory, kind], machine.environment())
            for node in NODES:
                # As netctl does; a script could only set net.core.rmem_default, for the whole machine.
                buffers.enlarge(int((rack.directory / node / "ovs-vswitchd.pid").read_text()))
            yield rack
        finally:
            machine.run([*script, "down", rack.prefix, rack.directory], machine.environment())
