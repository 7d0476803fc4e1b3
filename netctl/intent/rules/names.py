"""Rules for names: nodes become namespaces, so no two of any kind share one; some words mean something."""

from __future__ import annotations

from netctl.intent.defaults import DEFAULT_SWITCHES
from netctl.intent.findings import SECTIONS, Findings
from netctl.intent.references import PROTOCOLS
from netctl.intent.source import Path_
from netctl.model.intent import LabFile

NODE_KINDS = ("host", "VM", "bare machine", "network function")

RESERVED = {
    "hosts": ("all",),
    "subnets": ("any",),
    "vpcs": ("any", "all", "vlan"),
    "address_groups": ("any",),
    "service_groups": PROTOCOLS,
}
"""Words that already mean something where names of these sections stand."""


def nodes_differ(lab: LabFile, findings: Findings) -> None:
    """Hosts, switches, VMs, bare machines and functions are the namespaces LAB.NAME: names must differ."""
    seen: dict[str, tuple[str, Path_]] = {}
    kinds: list[tuple[str, tuple[str, ...]]] = [("switch", ("fabric", "switches"))]
    kinds += [(kind, (SECTIONS[kind],)) for kind in NODE_KINDS]
    if findings.written("fabric", "switches") is None:
        seen = {name: ("switch", ()) for name in DEFAULT_SWITCHES}
    for kind, section in kinds:
        for name in findings.names(*section):
            path = (*section, name)
            if name not in seen:
                seen[name] = (kind, path)
                continue
            other, where = seen[name]
            first = f"on line {findings.line(*where)}" if where else "by default"
            findings.error(
                path,
                f"`{name}` is a {kind} here and a {other} {first}",
                f"give one of them another name: each node becomes the network namespace LAB.{name}",
                key=True,
            )


def reserved_words(lab: LabFile, findings: Findings) -> None:
    """A name is not a word that already means something in its place."""
    for section, words in RESERVED.items():
        for name in findings.names(section):
            if name in words:
                findings.error(
                    (section, name), f"`{name}` already means something here", "choose another name", key=True
                )


RULES = (nodes_differ, reserved_words)
