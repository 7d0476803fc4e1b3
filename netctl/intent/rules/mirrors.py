"""Rules for NICs that mirror: they get copies and nothing else, and on one host with what they mirror."""

from __future__ import annotations

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.intent import LabFile
from netctl.model.vm import Nic

MOST_MIRRORS = 32
"""Mirrors of one bridge (MAX_MIRRORS, ofproto/ofproto-dpif-mirror.h)."""

OF_NETWORKS = ("ip", "mode", "trunked", "chain", "categories", "port_security")
"""Keys of NICs in networks."""


def mirrors(lab: LabFile, findings: Findings) -> None:
    """A NIC that mirrors is in no network, and mirrors what is on its host and mirrors nothing itself."""
    for vm, definition in lab.vms.items():
        for index, nic in enumerate(definition.nics):
            path: Path_ = ("vms", vm, "nics", index)
            if nic.mirror is None or not findings.sound(*path):
                continue
            for key in OF_NETWORKS:
                if key in nic.model_fields_set:
                    findings.error(
                        (*path, key),
                        f"{vm}/{index} mirrors {nic.mirror}: it gets copies and nothing else",
                        f"leave `{key}` out, or give {vm} another NIC with it",
                        key=True,
                    )
            if nic.subnet:
                findings.warn(
                    (*path, "subnet"),
                    f"{vm}/{index} mirrors {nic.mirror}: it gets copies and is in no subnet",
                    "leave `subnet` out",
                    key=True,
                )
            name, _, device = nic.mirror.partition("/")
            if name in lab.vms:
                _of_nic(lab, findings, path, vm, nic.mirror)
            elif name in lab.hosts and findings.sound("hosts", name) and findings.sound("virtual_switches"):
                _of_uplink(lab, findings, path, vm, name, device)


def _of_nic(lab: LabFile, findings: Findings, path: Path_, vm: str, source: str) -> None:
    owner, _, index = source.partition("/")
    if not findings.sound("vms", owner):
        return
    if mirrored := mirrored_by(lab, source):
        itself = (owner, int(index or 0)) == (vm, path[-1])
        what = "mirrors itself" if itself else f"mirrors {mirrored}, so nothing passes it that is not a copy"
        findings.error(
            (*path, "mirror"), f"{owner}/{index or 0} {what}", "name a NIC in a network, or an uplink"
        )
    elif owner != vm:
        _on_one_host(lab, findings, (*path, "mirror"), vm, owner)


def _on_one_host(lab: LabFile, findings: Findings, where: Path_, vm: str, source: str) -> None:
    """Open vSwitch copies within a bridge."""
    here, there = _host(lab, vm), _host(lab, source)
    if here is None or there is None:
        loose = vm if here is None else source
        findings.error(
            where,
            f"copies stay on their host, and {loose} may be on any",
            f"write vms.{loose}.host: {here or there or 'HOST'}" + ("" if here or there else " for both"),
        )
    elif here != there:
        findings.error(
            where,
            f"copies stay on their host: {vm} is on {here}, {source} on {there}",
            f"write vms.{vm}.host: {there}, or mirror {here}'s uplink to it",
        )


def _of_uplink(lab: LabFile, findings: Findings, path: Path_, vm: str, host: str, device: str) -> None:
    where = (*path, "mirror")
    if device not in defaults.nics(lab, host):
        return
    if _host(lab, vm) != host:
        findings.error(
            where,
            f"copies stay on their host, and {vm} is not bound to {host}",
            f"write vms.{vm}.host: {host}",
        )
    elif not any(device in uplinks for uplinks in defaults.uplinks(lab, host).values()):
        findings.error(
            where,
            f"{device} of {host} is an uplink of no virtual switch",
            "add it to the uplinks of one, or name another",
        )


def _host(lab: LabFile, vm: str) -> str | None:
    """The host that a VM is on, whatever netctl decides; None where that is open."""
    definition = lab.vms[vm]
    return definition.host or (definition.affinity[0] if len(definition.affinity) == 1 else None)


def not_too_many(lab: LabFile, findings: Findings) -> None:
    """A bridge makes so many copies and no more; the bridges of one host are counted together."""
    by_host: dict[str, list[Path_]] = {}
    for vm, definition in lab.vms.items():
        for index, nic in enumerate(definition.nics):
            host = _host(lab, vm)
            if nic.mirror is not None and host is not None:
                by_host.setdefault(host, []).append(("vms", vm, "nics", index, "mirror"))
    for host, paths in by_host.items():
        if len(paths) > MOST_MIRRORS:
            findings.error(
                paths[MOST_MIRRORS],
                f"{host} has {len(paths)} NICs that mirror, {MOST_MIRRORS} at most",
                "mirror an uplink instead, to one NIC",
            )


def in_networks(lab: LabFile, findings: Findings) -> None:
    """A NIC is in a subnet unless it mirrors."""
    about = Nic.model_fields["subnet"].description
    for vm, definition in lab.vms.items():
        for index, nic in enumerate(definition.nics):
            path = ("vms", vm, "nics", index)
            if not nic.subnet and nic.mirror is None and findings.sound(*path):
                findings.error(
                    path,
                    f"vms.{vm}.nics[{index}] lacks `subnet`",
                    f"write `subnet: ...`: {about}",
                    key=True,
                )


def mirrored_by(lab: LabFile, word: str) -> str | None:
    """What the NIC that a word names mirrors; None where it is in a network, or no NIC of this file."""
    name, _, index = word.partition("/")
    nics = lab.vms[name].nics if name in lab.vms else []
    number = int(index or 0) if (index or "0").isascii() and (index or "0").isdigit() else len(nics)
    return nics[number].mirror if number < len(nics) else None


RULES = (in_networks, mirrors, not_too_many)
