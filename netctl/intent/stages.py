"""YAML -> Intent: the stages, in order, on one page.

    text -> nodes with places -> grammar -> references -> clashes -> supported yet? -> defaults, assignments

A stage adds what it finds wrong to the others' problems; what one stage found wrong is left out of the next.
With problems, everything found is raised at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from netctl.errors import InputError, Problem
from netctl.intent import defaults, grammar, references, rules, source, supported
from netctl.intent.assignment import HOST_NETWORK, assign, host_address, host_mac
from netctl.intent.findings import Findings
from netctl.model import collector
from netctl.model.intent import Assignments, Hypervisor, Intent, LabFile, Machine, Port


def load(path: Path | str, assignments: Assignments | None = None, *, supported_only: bool = True) -> Intent:
    """See netctl.intent.load."""
    return loads(source.read(Path(path)), str(path), assignments, supported_only=supported_only)


def loads(
    text: str, file: str, assignments: Assignments | None = None, *, supported_only: bool = True
) -> Intent:
    """See netctl.intent.loads."""
    with collector.paused():
        lab, document, warnings = check(text, file, supported_only=supported_only)
        intent = decide(lab, assign(lab, assignments))
    return replace(intent, warnings=warnings, locate=document.place)


def reassign(intent: Intent, assignments: Assignments) -> Intent:
    """See netctl.intent.reassign."""
    with collector.paused():
        decided = decide(intent.file, assign(intent.file, assignments))
    return replace(decided, warnings=intent.warnings, locate=intent.locate)


def check(
    text: str, file: str, *, supported_only: bool = True
) -> tuple[LabFile, source.Document, tuple[Problem, ...]]:
    """The file as a model, with its places and warnings. Raises InputError with all of its problems."""
    document = source.compose(text, file)
    if document.data is None and document.problems:
        raise InputError.of(document.problems)
    lab, cuts = grammar.build(document)
    findings = Findings(document, cuts)
    references.check(lab, findings)
    rules.check(lab, findings)
    if not findings.problems and supported_only:
        supported.check(lab, findings)
    if findings.problems:
        raise InputError.of(findings.problems)
    return lab, document, findings.warnings


def decide(lab: LabFile, assigned: Assignments) -> Intent:
    """The intent of a file that is right, with these assignments."""
    names, pairs = defaults.switches(lab), defaults.links(lab)
    clusters = defaults.cluster_of(lab)
    hosts = {
        name: Hypervisor(
            name=name,
            number=number,
            cluster=clusters[name],
            address=IPv4Interface((host_address(number), HOST_NETWORK.prefixlen)),
            mac=host_mac(number),
            nics=defaults.nics(lab, name),
            bridges=defaults.bridges(lab, name),
        )
        for name, number in assigned.hosts.items()
    }
    placement = {name: vm.host or assigned.placement[name] for name, vm in sorted(lab.vms.items())}
    bare = Intent(
        file=lab,
        assignments=assigned,
        switches=names,
        links=pairs,
        rstp=defaults.has_loop(names, pairs),
        hosts=hosts,
        ports=(),
        machines={
            name: Machine(name, machine.mac or assigned.machines[name], machine)
            for name, machine in sorted(lab.physical.items())
        },
        placement=placement,
    )
    mtus = {name: bare.subnet_mtu(name) for name in lab.subnets}
    return replace(bare, ports=tuple(_ports(lab, assigned, placement, mtus)))


def _ports(
    lab: LabFile, assigned: Assignments, placement: Mapping[str, str], mtus: Mapping[str, int]
) -> list[Port]:
    ports = []
    for vm, host in placement.items():
        for index, nic in enumerate(lab.vms[vm].nics):
            number, mac, ip = assigned.nics[f"{vm}/{index}"]
            subnet = lab.subnets[nic.subnet]
            address: IPv4Address | None = None
            if isinstance(nic.ip, IPv4Address):
                address = nic.ip
            elif ip and nic.ip != "dhcp":
                address = IPv4Address(ip)
            ports.append(
                Port(
                    vm=vm,
                    index=index,
                    number=number,
                    host=host,
                    subnet=nic.subnet,
                    mac=nic.mac or mac,
                    ip=address,
                    mode=nic.mode,
                    trunked=tuple(sorted(nic.trunked)),
                    mtu=mtus[nic.subnet],
                    gateway=subnet.router,
                    network=subnet.cidr,
                    enabled=nic.link == "up",
                    port_security=nic.port_security,
                )
            )
    return ports
