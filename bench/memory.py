"""Memory of a host with nothing on it: its ovsdb-server, ovs-vswitchd and ovn-controller.

RSS counts every page that a process has in memory, so the program text and libraries that all hosts share
are counted three times per host. PSS divides a shared page by the number of its users: summed over all
processes it is the memory that is really taken, so it is what the target is about.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from bench import intents, machine
from bench.figures import Breakdown, Figure, Result, Sample

LIMIT = 40.0
MEGABYTE = 1e6
PROGRAMS = ("ovn-controller", "ovs-vswitchd", "ovsdb-server")


def measure(sizes: Sequence[int], progress: Callable[[str], None]) -> Result:
    """Bring up labs of hosts alone, and look."""
    figures = []
    breakdowns = []
    for size in sizes:
        progress(f"memory: {size} idle hosts")
        resident: list[float] = []
        shares: list[float] = []
        parts: dict[str, list[float]] = {program: [] for program in PROGRAMS}
        with machine.lab(intents.idle(f"bench{os.getpid()}-idle", size)) as lab:
            lab.up()
            for node, daemons in lab.processes().items():
                if not node.startswith("hv"):
                    continue
                found = sorted(daemon.program for daemon in daemons)
                assert found == sorted(PROGRAMS), f"{node} runs {found}"
                sizes_of = {daemon.program: daemon.memory() for daemon in daemons}
                resident.append(sum(rss for rss, _ in sizes_of.values()) / MEGABYTE)
                shares.append(sum(pss for _, pss in sizes_of.values()) / MEGABYTE)
                for program, (_, pss) in sizes_of.items():
                    parts[program].append(pss / MEGABYTE)
        assert len(shares) == size, f"{len(shares)} hosts of {size} have daemons"
        figures.append(
            Figure(
                f"one of {size} idle hosts",
                Sample(shares),
                "MB",
                LIMIT,
                note=f"RSS, with every shared page counted in full in each of the three daemons: "
                f"{Sample(resident).median:.1f} MB",
            )
        )
        breakdowns.append(
            Breakdown(
                f"memory of one of {size} idle hosts (PSS)",
                "MB",
                {program: Sample(values) for program, values in parts.items()},
            )
        )
    return Result("Memory per idle host", "the target alone", figures, breakdowns)
