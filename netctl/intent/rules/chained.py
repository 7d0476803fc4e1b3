"""Rules for who has a service chain: the functions are where its NICs are, and can tell the NICs apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.intent import LabFile
from netctl.model.policy import InboundRule, OutboundRule, Policy, selects
from netctl.model.vm import Nic, Vm


@dataclass(frozen=True, slots=True)
class _Use:
    """A chain, where it is named, and a NIC that has it by that."""

    chain: str
    path: Path_
    vm: str
    index: int


def where_functions_are(lab: LabFile, findings: Findings) -> None:
    """A chain's functions run wherever one of its VMs does: traffic is led through those of its own host."""
    told: set[tuple[Path_, str]] = set()
    for use in _uses(lab):
        vm = lab.vms[use.vm]
        for function in lab.service_chains[use.chain].functions:
            made = lab.network_functions.get(function)
            if made is None or made.hosts == "all" or (use.path, function) in told:
                continue
            hosts = [vm.host] if vm.host else vm.affinity or list(lab.hosts)
            missing = [host for host in hosts if host not in made.hosts and host in lab.hosts]
            if not missing:
                continue
            told.add((use.path, function))
            runs = f"{function} runs on {', '.join(made.hosts)} only"
            place = findings.line("network_functions", function)
            if vm.host:
                what = f"{use.vm} is on {vm.host}, and {runs} (line {place})"
            else:
                what = f"{use.vm} may be placed on {missing[0]}, and {runs} (line {place})"
            findings.error(
                use.path,
                f"the chain {use.chain}: {what}",
                f"write {missing[0]} into the hosts of {function} as well, or hosts: all"
                if vm.host
                else f"give {use.vm} a host, or write hosts: all for {function}",
                key=True,
            )


def whose_frames(lab: LabFile, findings: Findings) -> None:
    """What comes out of a function is told apart by the NICs' own MAC addresses."""
    told: set[tuple[str, int]] = set()
    macs: dict[str, tuple[str, int]] = {}
    for use in _uses(lab):
        nic, key = lab.vms[use.vm].nics[use.index], (use.vm, use.index)
        path: Path_ = ("vms", use.vm, "nics", use.index)
        if key in told:
            continue
        told.add(key)
        by = f"the chain {use.chain} (line {findings.line(*use.path)})"
        if not nic.port_security:
            findings.error(
                (*path, "port_security"),
                f"{use.vm}/{use.index} has {by}, which needs its frames to have its own MAC address",
                "leave port_security out, or give this VM no chain",
                key=True,
            )
        if nic.mode == "trunk" and not _is_basic(lab, nic):
            findings.error(
                (*path, "mode"),
                f"{use.vm}/{use.index} has {by}, and chains of trunks are there on VLAN basic subnets only",
                "write an access NIC for each VLAN, or type: vlan-basic for the subnet",
                key=True,
            )
        if nic.mac is not None:
            other = macs.setdefault(nic.mac, key)
            if other != key:
                findings.error(
                    (*path, "mac"),
                    f"{nic.mac} is also that of {other[0]}/{other[1]}, and both have chains",
                    "write another MAC address",
                )


def modes(lab: LabFile, findings: Findings) -> None:
    """A tap gets copies: there is nothing that it could hold back."""
    for name, function in lab.network_functions.items():
        if function.mode == "tap" and function.program in ("firewall", "delay"):
            findings.error(
                ("network_functions", name, "program"),
                f"{name} is a tap and gets copies: a {function.program} needs mode: inline",
                "write mode: inline, or program: capture",
            )


def _uses(lab: LabFile) -> Iterator[_Use]:
    """Who has which chain, as far as the file is right."""
    for name, subnet in lab.subnets.items():
        if subnet.chain in lab.service_chains:
            for vm, index, nic in _nics(lab):
                if nic.subnet == name and nic.chain is None:
                    yield _Use(str(subnet.chain), ("subnets", name, "chain"), vm, index)
    for vm, index, nic in _nics(lab):
        if nic.chain in lab.service_chains:
            yield _Use(str(nic.chain), ("vms", vm, "nics", index, "chain"), vm, index)
    for name, policy in lab.policies.items():
        if policy.mode == "save" or policy.secured is None:
            continue
        chains = list(_of_policy(name, policy))
        if not chains:
            continue
        for vm, index, nic in _nics(lab):
            categories = {**lab.vms[vm].categories, **nic.categories}
            if not selects(policy.secured, categories) or not _in_scope(lab, policy, nic):
                continue
            for chain, path in chains:
                if chain in lab.service_chains:
                    yield _Use(chain, path, vm, index)


def _of_policy(name: str, policy: Policy) -> Iterator[tuple[str, Path_]]:
    path: Path_ = ("policies", name)
    if policy.chain is not None:
        yield policy.chain, (*path, "chain")
    for direction in ("inbound", "outbound"):
        rules: list[InboundRule] | list[OutboundRule] = getattr(policy, direction) or []
        for index, chain in enumerate(rule.chain for rule in rules):
            if chain is not None:
                yield chain, (*path, direction, index, "chain")


def _in_scope(lab: LabFile, policy: Policy, nic: Nic) -> bool:
    subnet = lab.subnets.get(nic.subnet)
    if policy.scope == "all" or subnet is None:
        return True
    if policy.scope == "vlan":
        return subnet.type != "overlay"
    return subnet.type == "overlay" and subnet.vpc in policy.scope


def _nics(lab: LabFile) -> Iterator[tuple[str, int, Nic]]:
    vm: Vm
    for name, vm in lab.vms.items():
        for index, nic in enumerate(vm.nics):
            if nic.mirror is None:
                yield name, index, nic


def _is_basic(lab: LabFile, nic: Nic) -> bool:
    subnet = lab.subnets.get(nic.subnet)
    return subnet is not None and subnet.type == "vlan-basic"


RULES = (where_functions_are, whose_frames, modes)
