"""What a file's parts must be to each other. One module per concept, one function per rule.

A rule looks at the model of all that the grammar took, and adds what it finds. Where it misses something, it
first asks whether that was cut out (`Findings.sound`), so that one mistake makes one problem.
"""

from __future__ import annotations

from collections.abc import Callable

from netctl.intent.findings import Findings
from netctl.intent.rules import (
    bgp,
    chained,
    chains,
    checks,
    fabric,
    hosts,
    ipv6,
    mirrors,
    names,
    policies,
    subnets,
    vms,
    vpcs,
)
from netctl.model.intent import LabFile

Rule = Callable[[LabFile, Findings], None]

RULES: tuple[Rule, ...] = (
    *names.RULES,
    *fabric.RULES,
    *hosts.RULES,
    *subnets.RULES,
    *ipv6.RULES,
    *vpcs.RULES,
    *bgp.RULES,
    *vms.RULES,
    *mirrors.RULES,
    *policies.RULES,
    *chains.RULES,
    *chained.RULES,
    *checks.RULES,
)


def check(lab: LabFile, findings: Findings) -> None:
    """Applies every rule."""
    for rule in RULES:
        rule(lab, findings)
