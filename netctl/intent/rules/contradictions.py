"""Rules for security policies that contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.intent import LabFile
from netctl.model.policy import InboundRule, Peer, selects
from netctl.model.service import Range, ranges

MOST_COMPARISONS = 200_000
"""How many pairs of rules are looked at: a warning is not worth more."""


@dataclass(frozen=True)
class _Ruling:
    """A rule of a policy, with what is needed to hold it against another."""

    path: Path_
    policy: str
    secured: frozenset[int]
    peer: Peer
    services: tuple[Range, ...]
    action: str


def no_contradiction(lab: LabFile, findings: Findings) -> None:
    """What one rule allows and another rejects is allowed, as policies add up: hardly what was meant."""
    if not (findings.sound("vms") and findings.sound("policies") and findings.sound("service_groups")):
        return
    categories = [{**vm.categories, **nic.categories} for vm in lab.vms.values() for nic in vm.nics]
    rulings: dict[tuple[str, bool, str], list[_Ruling]] = {}
    for name, policy in lab.policies.items():
        if policy.mode == "save" or policy.secured is None or policy.type == "isolation":
            continue
        secured = frozenset(number for number, have in enumerate(categories) if selects(policy.secured, have))
        for direction in ("inbound", "outbound"):
            kind = (direction, policy.type == "quarantine", policy.mode)
            for index, rule in enumerate(getattr(policy, direction) or ()):
                peer = rule.from_ if isinstance(rule, InboundRule) else rule.to
                services = ranges(rule.services, lab.service_groups)
                path = ("policies", name, direction, index)
                rulings.setdefault(kind, []).append(_Ruling(path, name, secured, peer, services, rule.action))
    patience = MOST_COMPARISONS
    for found in rulings.values():
        allowed = [ruling for ruling in found if ruling.action == "allow"]
        # Whoever rejects `any` means the rest.
        for rejected in (one for one in found if one.action == "reject" and one.peer != "any"):
            for allows in allowed:
                patience -= 1
                if patience < 0:
                    return
                if (
                    rejected.secured & allows.secured
                    and _peers_overlap(lab, categories, rejected.peer, allows.peer)
                    and _services_overlap(rejected.services, allows.services)
                ):
                    line = findings.line(*allows.path)
                    findings.warn(
                        rejected.path,
                        f"this rejects what {allows.policy} allows (line {line}): what both name is allowed",
                        "a rule can only reject what no rule allows; narrow the one that allows",
                    )
                    break


def _peers_overlap(lab: LabFile, categories: list[dict[str, str]], one: Peer, other: Peer) -> bool:
    """Whether somebody may be both of these peers, as far as the file alone can tell."""
    if "any" in (one, other) or one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return any(selects(one, have) and selects(other, have) for have in categories)
    if isinstance(one, dict) or isinstance(other, dict):
        return False
    return any(
        first.version == second.version and first.overlaps(second)
        for first in _networks(lab, one)
        for second in _networks(lab, other)
    )


def _networks(lab: LabFile, peer: str) -> list[Any]:
    if peer in lab.address_groups:
        return list(lab.address_groups[peer])
    subnets = [
        subnet
        for name, subnet in lab.subnets.items()
        if name == peer or (subnet.vpc == peer and peer in lab.vpcs)
    ]
    if subnets or peer in lab.subnets or peer in lab.vpcs:
        return [network for subnet in subnets for network in (subnet.cidr, subnet.cidr6) if network]
    return [ip_network(peer)]


def _services_overlap(one: tuple[Range, ...], other: tuple[Range, ...]) -> bool:
    if not one or not other:
        return True
    return any(
        first.protocol == second.protocol
        and (
            first.first is None
            or second.first is None
            or (first.first <= (second.last or 0) and second.first <= (first.last or 0))
        )
        for first in one
        for second in other
    )
