"""Rules for checks: what can be asked of one packet, and how a story is told."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.intent.grammar import nearest
from netctl.intent.rules.mirrors import mirrored_by
from netctl.intent.source import Path_
from netctl.model.base import attributes, show
from netctl.model.check import Check, Probe, Step
from netctl.model.intent import LabFile

VERBS = ("check", "fail", "heal", "traffic", "apply", "migrate")

WITH = {"within": ("check",), "max_outage": ("fail", "heal", "apply", "migrate"), "rarp": ("migrate",)}
"""What goes with which verbs of a step."""


def checks(lab: LabFile, findings: Findings) -> None:
    """A check is a probe or a story."""
    for index, check in enumerate(lab.checks):
        path: Path_ = ("checks", index)
        if ("checks", index) in findings.broken:
            continue
        if check.steps is None and findings.sound(*path, "steps"):
            _probe(lab, findings, check, path)
        elif check.steps is not None:
            _story(lab, findings, check, path)


def _story(lab: LabFile, findings: Findings, check: Check, path: Path_) -> None:
    keys = {attribute: key for key, attribute in attributes(Check).items()}
    for attribute in sorted(check.model_fields_set - {"name", "steps"}):
        findings.error(
            (*path, keys[attribute]),
            f"a check with steps has no `{keys[attribute]}` of its own",
            "move it into a step: {check: {from: ..., to: ...}}",
            key=True,
        )
    if not check.steps:
        findings.error(
            (*path, "steps"), "this story has no steps", "write [{check: {from: ..., to: ...}}]", key=True
        )
    for number, step in enumerate(check.steps or ()):
        _step(lab, findings, step, (*path, "steps", number))
        if step.apply is not None:
            break  # what follows is judged with the patch


def _step(lab: LabFile, findings: Findings, step: Step, path: Path_) -> None:
    verbs = [verb for verb in VERBS if getattr(step, verb) is not None]
    if len(verbs) != 1:
        if findings.sound(*path):
            findings.error(
                path,
                f"a step does one thing, this does {' and '.join(verbs)}"
                if verbs
                else "this step does nothing",
                "write a step each" if verbs else f"write one of {', '.join(VERBS)}",
            )
        return
    verb = verbs[0]
    for key, owners in WITH.items():
        if getattr(step, key) is not None and verb not in owners:
            findings.error(
                (*path, key),
                f"`{key}` does not go with `{verb}`",
                f"it goes with {' or '.join(owners)}",
                key=True,
            )
    for key in ("check", "traffic"):
        probe: Probe | None = getattr(step, key)
        if probe is not None:
            _probe(lab, findings, probe, (*path, key))
    if step.traffic is not None and step.traffic.expect != "delivered":
        findings.error(
            (*path, "traffic", "expect"), "traffic is to be delivered", "ask for drops with a check", key=True
        )
    if step.migrate is not None:
        vm = lab.vms.get(step.migrate.vm)
        if vm is not None and vm.affinity and step.migrate.to not in vm.affinity:
            findings.error(
                (*path, "migrate", "to"),
                f"{step.migrate.to} is not in the affinity of {step.migrate.vm}",
                f"write one of {', '.join(vm.affinity)}",
            )
    known = list(attributes(LabFile))
    for key in step.apply or ():
        if key not in known:
            findings.error(
                (*path, "apply", key),
                f"unknown key `{key}` in a patch of the lab",
                nearest(key, known) or f"the keys are {', '.join(known)}",
                key=True,
            )


def _probe(lab: LabFile, findings: Findings, probe: Probe, path: Path_) -> None:
    for key, attribute in (("from", "from_"), ("to", "to")):
        if getattr(probe, attribute) is None and findings.sound(*path, key):
            findings.error(path, f"this check does not say `{key}` whom", f"write {key}: NAME", key=True)
    if probe.from_ is not None and probe.to is not None and _nic(probe.from_) == _nic(probe.to):
        findings.error((*path, "to"), f"{probe.to} would send to itself", "name another receiver")
    if not findings.sound(*path, "protocol") or not findings.sound(*path, "expect"):
        return
    protocol, expect = probe.protocol, probe.expect
    if protocol in ("tcp", "udp"):
        if probe.port is None and findings.sound(*path, "port"):
            where = (*path, "protocol")
            findings.error(where, f"a {protocol} check needs a port", "write port: 80", key=True)
    elif probe.port is not None:
        findings.error(
            (*path, "port"),
            f"{protocol} has no ports",
            "remove `port`, or write protocol: tcp or udp",
            key=True,
        )
    if protocol == "arp":
        if probe.size is not None:
            findings.error((*path, "size"), "an ARP request has one size", "remove `size`", key=True)
        if expect == "rejected":
            findings.error((*path, "expect"), "nobody rejects ARP", "write delivered or dropped")
    if expect != "delivered":
        for key in ("snat", "on_uplink"):
            if getattr(probe, key) is not None:
                findings.error(
                    (*path, key),
                    f"`{key}` is seen where a packet arrives, this one is to be {expect}",
                    f"remove `{key}`, or write expect: delivered",
                    key=True,
                )
    if probe.snat is not None and protocol in ("arp", "icmp6"):
        findings.error((*path, "snat"), f"{protocol} is not translated", "remove `snat`", key=True)
    _uplink(lab, findings, probe, path)
    _receiver(lab, findings, probe, path)
    for key, end in (("from", probe.from_), ("to", probe.to)):
        if mirrored := mirrored_by(lab, end or ""):
            findings.error(
                (*path, key),
                f"{end} gets copies of {mirrored} and nothing else: no packet is from it or for it",
                "name another NIC",
            )
            return
    _addresses(lab, findings, probe, path)


def _uplink(lab: LabFile, findings: Findings, probe: Probe, path: Path_) -> None:
    if probe.on_uplink is None:
        return
    where = (*path, "on_uplink")
    if probe.from_ in lab.physical:
        findings.error(
            where, f"{probe.from_} is a bare machine: it has no uplinks", "remove `on_uplink`", key=True
        )
        return
    vm = lab.vms.get(_nic(probe.from_).partition("/")[0]) if probe.from_ else None
    stays = "steps" not in path  # in a story it may migrate
    hosts = [vm.host] if vm and vm.host and stays else list(lab.hosts)
    if not all(host in lab.hosts and findings.sound("hosts", host) for host in hosts):
        return
    nics = dict.fromkeys(nic for host in hosts for nic in defaults.nics(lab, host))
    if probe.on_uplink not in nics and nics:
        of = f"the host {hosts[0]} of {probe.from_}" if len(hosts) == 1 else "no host"
        findings.error(
            where,
            f"{of} has {'no' if len(hosts) == 1 else 'a'} NIC `{show(probe.on_uplink)}`",
            f"write {' or '.join(nics)}",
        )


def _receiver(lab: LabFile, findings: Findings, probe: Probe, path: Path_) -> None:
    """An address can be asked in the protocols of its family only, and must be one receiver's."""
    try:
        address = ip_address(probe.to or "")
    except ValueError:
        return
    where = (*path, "to")
    six, wants_six = address.version == 6, probe.protocol == "icmp6"
    chosen = "protocol" in probe.model_fields_set
    if six and (probe.protocol == "arp" or (probe.protocol == "icmp" and chosen)):
        findings.error(where, f"{probe.protocol} is IPv4's, {address} is not", "write protocol: icmp6")
    elif wants_six and not six:
        findings.error(where, f"icmp6 is IPv6's, {address} is not", "write protocol: icmp")
    elif address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        findings.error(where, f"{address} is not one receiver", "name a VM, or its address")
    elif address.is_link_local and six:
        findings.error(
            where, f"{address} is another machine on each link", "name a VM, or another address of it"
        )
    elif address.is_loopback:
        findings.error(where, f"{address} never leaves its sender", "name a VM, or its address")
    else:
        name, _, index = _nic(probe.from_ or "").partition("/")
        nics = lab.vms[name].nics if name in lab.vms and findings.sound("vms", name) else []
        if index.isdigit() and int(index) < len(nics) and nics[int(index)].ip == address:
            findings.error(where, f"{probe.from_} would send to itself", "name another receiver")


def _addresses(lab: LabFile, findings: Findings, probe: Probe, path: Path_) -> None:
    """IP needs an address at both ends, of one version."""
    if probe.protocol == "arp":
        return
    known: dict[str, frozenset[int]] = {}
    for key, end in (("from", probe.from_), ("to", probe.to)):
        found = _versions(lab, findings, end or "")
        if found is None:
            continue
        known[key] = found
        if not found:
            machine = end in lab.physical
            subnet = "" if machine else _subnet_of(lab, end or "")
            findings.error(
                (*path, key),
                f"{end} has no address" + ("" if machine else f": {subnet} is unmanaged"),
                f"write physical.{end}.ip"
                if machine
                else f"write subnets.{subnet}.cidr, or check it with protocol: arp",
            )
    if not all(known.values()):
        return
    chosen = "protocol" in probe.model_fields_set
    version = 6 if probe.protocol == "icmp6" else 4 if probe.protocol == "icmp" and chosen else 0
    if version and _is_address(probe.to) and known["to"] != {version}:
        return  # said of the receiver already
    for key, end in (("from", probe.from_), ("to", probe.to)):
        subnet = _subnet_of(lab, end or "")
        named = subnet or end in lab.physical
        if version and named and version not in known.get(key, {version}):
            other = "icmp6" if version == 4 else "icmp"
            cidr = "cidr" if version == 4 else "cidr6"
            findings.error(
                (*path, key),
                f"{end} has no IPv{version} address, which {probe.protocol} needs",
                (f"write subnets.{subnet}.{cidr}, or " if subnet else "write ") + f"protocol: {other}",
            )
            return
    if len(known) == 2 and not known["from"] & known["to"]:
        one, two = (min(known[key]) for key in ("from", "to"))
        findings.error(
            (*path, "to"),
            f"{probe.from_} has IPv{one} only and {probe.to} IPv{two} only: they cannot talk",
            "give both an address of one version",
        )


def _versions(lab: LabFile, findings: Findings, end: str) -> frozenset[int] | None:
    """The versions of IP of which an end has an address; None where nobody can say."""
    if end in lab.physical:
        if lab.physical[end].ip is not None:
            return frozenset({4})
        return frozenset() if findings.sound("physical", end) else None
    if _is_address(end):
        return frozenset({ip_address(end).version})
    name = _subnet_of(lab, end)
    if (
        not name
        or not findings.sound("vms", _nic(end).partition("/")[0])
        or not findings.sound("subnets", name)
    ):
        return None
    subnet = lab.subnets[name]
    return frozenset(
        version for version, network in ((4, subnet.cidr), (6, subnet.cidr6)) if network is not None
    ) or (frozenset({4}) if _has_ip(lab, end) else frozenset())


def _is_address(text: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ip_address(text or ""))
    return False


def _subnet_of(lab: LabFile, end: str) -> str:
    """The subnet of a NIC; "" where there is none."""
    vm, _, index = _nic(end).partition("/")
    nics = lab.vms[vm].nics if vm in lab.vms else []
    number = int(index) if index.isascii() and index.isdigit() else len(nics)
    name = nics[number].subnet if number < len(nics) else ""
    return name if name in lab.subnets else ""


def _has_ip(lab: LabFile, end: str) -> bool:
    vm, _, index = _nic(end).partition("/")
    return lab.vms[vm].nics[int(index)].ip is not None


def _nic(end: str) -> str:
    return end if "/" in end else f"{end}/0"


RULES = (checks,)
