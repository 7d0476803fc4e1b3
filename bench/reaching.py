"""All ordered pairs of 64 VMs on 4 hosts by `netctl matrix`, against `pingAll` of Mininet's `linear,4,16`.

Both send one ping for each pair and wait for its answer. Mininet's hosts hang on four switches of one
ovs-vswitchd, netctl's VMs in one VLAN on four hosts with an Open vSwitch each, behind two top-of-rack
switches; netctl also looks at every NIC for what should not be there. Of Mininet its pingAll() alone is
timed, right after start; of netctl the whole process, the first after `up` and another one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from bench import intents, machine
from bench.figures import Figure, Result, Sample, ratio
from bench.lifecycle import UNSHARE
from netctl.errors import ChangeError

HOSTS, VMS = 4, 16
PAIRS = HOSTS * VMS * (HOSTS * VMS - 1)
LIMIT = 20.0


def measure(runs: int, progress: Callable[[str], None]) -> Result:
    """Measure; Mininet and netctl in turn."""
    machine.need("mnexec", "mininet")
    machine.need("ping", "iputils-ping")
    theirs: list[float] = []
    ours: dict[str, list[float]] = {}
    for number in range(1, runs + 1):
        progress(f"all pairs: {PAIRS}, run {number} of {runs}, Mininet")
        machine.settle()
        theirs.append(PAIRS / _mininet())
        progress(f"all pairs: {PAIRS}, run {number} of {runs}, netctl")
        machine.settle()
        for name, seconds in _netctl(number).items():
            ours.setdefault(name, []).append(PAIRS / seconds)
    reference = Sample(theirs)
    figures = [
        Figure(
            name,
            ratio(Sample(values), reference),
            "x",
            LIMIT,
            at_least=True,
            ours=Sample(values),
            reference=reference,
            measured_in="pairs/s",
        )
        for name, values in ours.items()
    ]
    return Result(f"All pairs of {HOSTS * VMS} VMs", "Mininet's pingAll, linear,4,16", figures)


def _netctl(number: int) -> dict[str, float]:
    """Seconds of the first and of another matrix: of the process, and of its work as it counts it itself."""
    found = {}
    with machine.lab(intents.flat(f"bench{os.getpid()}-m{number}", HOSTS, VMS)) as lab:
        lab.up()
        for name in ("first after up", "another"):
            said, whole = lab.command("matrix", "--lab", lab.name, "--json")
            document = json.loads(said)
            delivered = sum(pair["delivered"] is True for pair in document["pairs"])
            if delivered != PAIRS:
                raise ChangeError(f"netctl matrix delivered {delivered} of {PAIRS} packets")
            found[f"{name}, the whole process"] = whole
            found[f"{name}, its work"] = document["seconds"]
        lab.down()
    return found


def _mininet() -> float:
    """Seconds of pingAll, which must lose nothing."""
    with machine.scratch() as directory:
        script = machine.HERE / "mininet_linear.py"
        said = machine.run(
            [*UNSHARE, sys.executable, script, str(HOSTS), str(VMS), directory, "--ping-all"],
            machine.environment(),
        )
    return float(json.loads(said.splitlines()[-1])["ping_all"])
