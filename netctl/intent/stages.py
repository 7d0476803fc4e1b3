"""YAML -> Intent: the stages, in order, on one page.

    text -> nodes with places -> grammar -> references -> clashes -> supported yet? -> defaults, assignments

A stage adds what it finds wrong to the others' problems; what one stage found wrong is left out of the next.
With problems, everything found is raised at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from netctl.errors import InputError, Problem
from netctl.intent import defaults, grammar, patches, references, rules, source, supported
from netctl.intent.assignment import HOST_NETWORK, assign, host_address, host_mac
from netctl.intent.findings import Findings
from netctl.model import collector
from netctl.model.intent import Assignments, Gateway, Hypervisor, Intent, LabFile, Machine, Mirror, Port
from netctl.model.ipv6 import autoconfigured

MOST_OF_A_PATCH = 5
"""How many mistakes of a patch are told."""


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
    if not findings.problems:
        _judge_patches(lab, file, findings, supported_only=supported_only)
    if findings.problems:
        raise InputError.of(findings.problems)
    return lab, document, findings.warnings


def edited(intent: Intent, patch: Mapping[str, Any], file: str, stale: Collection[int]) -> tuple[str, int]:
    """See netctl.intent.edited."""
    check(patches.patched(intent.file, patch), file)
    checks = patches.plain(intent.file).get("checks", [])
    kept = [each for number, each in enumerate(checks) if number not in stale]

    def text(some: list[Any]) -> str:
        return patches.patched(intent.file, {**patch, "checks": some} if some else patch)

    def holds(some: list[Any]) -> bool:
        try:
            check(text(some), file)
        except InputError:
            return False
        return True

    if kept and not holds(kept):
        kept = [each for each in kept if holds([each])]
    return text(kept), len(checks) - len(kept)


def _judge_patches(lab: LabFile, file: str, findings: Findings, *, supported_only: bool) -> None:
    """Load the file as each story's `apply` leaves it, with the story's next steps."""
    for index, check_ in enumerate(lab.checks):
        steps = check_.steps or []
        at = next((number for number, step in enumerate(steps) if step.apply is not None), None)
        if at is None:
            continue
        rest = steps[at + 1 :]
        story = [
            {"steps": [step.model_dump(mode="json", by_alias=True, exclude_unset=True) for step in rest]}
        ]
        text = patches.patched(lab, {**(steps[at].apply or {}), **({"checks": story} if rest else {})})
        try:
            check(text, file, supported_only=supported_only)
        except InputError as error:
            for problem in error.problems[:MOST_OF_A_PATCH]:
                findings.error(
                    ("checks", index, "steps", at, "apply"),
                    f"the lab would be wrong with this patch: {problem.message}",
                    problem.hint,
                    key=True,
                )


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
    return replace(
        bare,
        ports=tuple(_ports(lab, assigned, placement, mtus)),
        mirrors=tuple(_mirrors(bare, mtus)),
        gateways=tuple(_gateways(bare)),
    )


def _gateways(intent: Intent) -> Iterator[Gateway]:
    """The ways out of all VPCs; whoever names no gateway hosts gets all that reach the VLAN."""
    for vpc, definition in sorted(intent.file.vpcs.items()):
        for external in sorted(definition.external, key=lambda one: one.subnet):
            address = external.router_ip or IPv4Address(
                intent.assignments.routers[f"{vpc}/{external.subnet}"]
            )
            yield Gateway(
                vpc=vpc,
                subnet=external.subnet,
                router_ip=address,
                snat_ip=(external.snat_ip or address) if external.nat else None,
                hosts=tuple(defaults.gateway_hosts(intent.file, external)),
            )


def _ports(
    lab: LabFile, assigned: Assignments, placement: Mapping[str, str], mtus: Mapping[str, int]
) -> list[Port]:
    ports = []
    for vm, host in placement.items():
        for index, nic in enumerate(lab.vms[vm].nics):
            if nic.mirror is not None:
                continue
            number, mac, ip = assigned.nics[f"{vm}/{index}"]
            subnet = lab.subnets[nic.subnet]
            address: IPv4Address | None = None
            if isinstance(nic.ip, IPv4Address):
                address = nic.ip
            elif ip:
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
                    dhcp=nic.ip == "dhcp",
                    ip6=autoconfigured(subnet.cidr6, nic.mac or mac) if subnet.cidr6 else None,
                    rate=nic.rate,
                )
            )
    return ports


def _mirrors(intent: Intent, mtus: Mapping[str, int]) -> Iterator[Mirror]:
    """The NICs that get copies, with room for whatever passes what they mirror."""
    vms = intent.file.vms
    for vm, host in intent.placement.items():
        for index, nic in enumerate(vms[vm].nics):
            if nic.mirror is None:
                continue
            name, _, device = nic.mirror.partition("/")
            if name in vms:
                source, mtu = f"{name}/{device or 0}", mtus[vms[name].nics[int(device or 0)].subnet]
            else:
                source = nic.mirror
                mtu = next(b.mtu for b in intent.hosts[name].bridges if device in b.uplinks)
            number, mac, _ = intent.assignments.nics[f"{vm}/{index}"]
            yield Mirror(
                vm=vm,
                index=index,
                number=number,
                host=host,
                mac=nic.mac or mac,
                mtu=mtu,
                enabled=nic.link == "up",
                rate=nic.rate,
                source=source,
            )
