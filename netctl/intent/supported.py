"""What the grammar has and this version cannot build yet: refused by name and place, never ignored.

Whoever builds a feature deletes its lines here, with nothing else to change in netctl.intent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netctl.intent.findings import Findings
from netctl.intent.grammar import path_text
from netctl.intent.source import Path_
from netctl.intent.walk import Patterns
from netctl.model.intent import LabFile

Wanted = Callable[[Any], bool]


def written(value: Any) -> bool:
    """Anything but what stands for nothing."""
    return value is not None and value is not False and value != [] and value != {}


def is_(*values: object) -> Wanted:
    """One of these values."""
    return lambda value: value in values


NOT_YET: tuple[tuple[str, Wanted, str], ...] = (
    # bonds, VLAN basic, NIC types
    # VPCs and the way out
    ("clusters.*.latency_ms", written, "latency between clusters"),
    # service chains
    ("network_functions.*.kind", is_("qemu"), "QEMU VMs"),
    ("network_functions.*.program", is_("ids"), "the program ids"),
    # migration and real VMs
    ("vms.*.kind", is_("qemu"), "QEMU VMs"),
    ("vms.*.memory", written, "memory of VMs"),
    ("vms.*.anti_affinity", written, "anti-affinity"),
    # checks
    ("checks.*.steps.*.migrate", written, "live migration"),
)
"""Where, what of the value there, and what users call it."""


def check(lab: LabFile, findings: Findings) -> None:
    """Adds a problem for everything that is right, but not built yet."""
    table = Patterns((pattern, (wanted, name)) for pattern, wanted, name in NOT_YET)
    refused: set[Path_] = set()
    for path, (wanted, name), value in table.find(lab):
        if not wanted(value) or any(path[:length] in refused for length in range(len(path))):
            continue
        refused.add(path)
        findings.error(
            path, f"{path_text(path)}: not supported yet: {name}", "leave it out for now", key=True
        )
