"""Rules for security policies: what each type needs, and whether anything is secured by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netctl.intent.findings import Findings
from netctl.intent.rules.contradictions import no_contradiction
from netctl.intent.source import Path_
from netctl.model.intent import LabFile
from netctl.model.policy import Chooser, InboundRule, Policy, selector_text, selects


def what_the_type_needs(lab: LabFile, findings: Findings) -> None:
    """Isolation is between two groups; all others secure one."""
    for name, policy in lab.policies.items():
        path = ("policies", name)
        if policy.type == "isolation":
            if policy.between is None:
                if findings.sound(*path, "between"):
                    findings.error(
                        path,
                        f"the isolation policy {name} says between whom",
                        "write between: [{Env: prod}, {Env: dev}]",
                        key=True,
                    )
            elif len(policy.between) != 2:
                findings.error(
                    (*path, "between"),
                    f"isolation is between two groups, these are {len(policy.between)}",
                    "write two selectors; a policy each for every further pair",
                    key=True,
                )
            elif selector_text(policy.between[0]) == selector_text(policy.between[1]):
                findings.error(
                    (*path, "between"), "both groups are the same", "write two different selectors", key=True
                )
            for key in ("secured", "inbound", "outbound", "chain"):
                if getattr(policy, key) is not None:
                    findings.error(
                        (*path, key),
                        f"an isolation policy has no `{key}`: it blocks everything between its groups",
                        f"remove `{key}`, or write type: application",
                        key=True,
                    )
            continue
        if policy.secured is None and findings.sound(*path, "secured"):
            findings.error(
                path,
                f"the policy {name} does not say what it secures",
                "write secured: {Tier: app}",
                key=True,
            )
        if policy.between is not None:
            findings.error(
                (*path, "between"),
                "`between` is for isolation policies",
                "write type: isolation, or secured: ...",
                key=True,
            )
        restricts = policy.inbound is not None or policy.outbound is not None or policy.type == "quarantine"
        if not restricts and findings.sound(*path):
            only = "" if policy.intra_group == "allow" else ", only traffic between the VMs that it secures"
            findings.warn(
                path,
                f"the policy {name} restricts no direction{only}",
                "write inbound: [...] or outbound: [...]; an empty list allows nothing",
                key=True,
            )


def _selectors(policy: Policy, path: Path_) -> Iterator[tuple[Path_, dict[str, Any], bool]]:
    """Place, selector, and whether the policy secures what it selects."""
    if policy.secured is not None:
        yield (*path, "secured"), policy.secured, True
    for index, side in enumerate(policy.between or ()):
        yield (*path, "between", index), side, True
    for index, rule in enumerate(policy.inbound or ()):
        if isinstance(rule.from_, dict):
            yield (*path, "inbound", index, "from"), rule.from_, False
    for index, out in enumerate(policy.outbound or ()):
        if isinstance(out.to, dict):
            yield (*path, "outbound", index, "to"), out.to, False


def _keys(selector: dict[str, Any]) -> Iterator[str]:
    for key, part in selector.items():
        if key in ("all", "any"):
            for inner in part:
                yield from _keys(inner)
        elif key == "not":
            yield from _keys(part)
        else:
            yield key


def somebody_selected(lab: LabFile, findings: Findings) -> None:
    """A selector that selects nobody is allowed (VMs may come), but looks wrong."""
    if not findings.sound("vms"):
        return
    groups = {
        tuple(sorted(categories.items())): categories
        for vm in lab.vms.values()
        for categories in (
            vm.categories,
            *({**vm.categories, **nic.categories} for nic in vm.nics if nic.categories),
        )
    }
    chooser = Chooser(list(groups.values()))
    known = {key for categories in groups.values() for key in categories}
    for name, policy in lab.policies.items():
        for path, selector, secures in _selectors(policy, ("policies", name)):
            if chooser.select(selector):
                continue
            unknown = [key for key in _keys(selector) if key not in known]
            if unknown:
                hint = f"no VM has a category `{unknown[0]}`" + (
                    f"; there are {', '.join(sorted(known)[:6])}" if known else ""
                )
            else:
                hint = "look for a misspelt value, or add VMs with these categories"
            what = f"the policy {name} secures nothing" if secures else "no VM has these categories"
            findings.warn(path, what, hint)


def known_addresses(lab: LabFile, findings: Findings) -> None:
    """Peers are known by their addresses; a NIC on a subnet without a network has none that netctl knows."""
    bare = {name for name, subnet in lab.subnets.items() if subnet.cidr is None and subnet.cidr6 is None}
    nics = [
        (f"{name}/{index}", nic.subnet, {**vm.categories, **nic.categories})
        for name, vm in lab.vms.items()
        for index, nic in enumerate(vm.nics)
        if nic.subnet in bare
    ]
    for name, policy in lab.policies.items():
        if policy.mode == "save":
            continue
        for path, selector, _ in _selectors(policy, ("policies", name)):
            if path[-1] == "secured" and policy.intra_group != "allow":
                continue
            nameless = [(nic, subnet) for nic, subnet, categories in nics if selects(selector, categories)]
            if nameless:
                nic, subnet = nameless[0]
                findings.warn(
                    path,
                    f"{nic} has no address that netctl knows, so as a peer nobody knows it by its categories",
                    f"write subnets.{subnet}.cidr",
                )
        for direction, key in (("inbound", "from"), ("outbound", "to")):
            for index, rule in enumerate(getattr(policy, direction) or ()):
                peer = rule.from_ if isinstance(rule, InboundRule) else rule.to
                if isinstance(peer, str) and peer in bare and peer not in lab.address_groups:
                    findings.warn(
                        ("policies", name, direction, index, key),
                        f"the subnet {peer} has no network, so nobody is known to be in it",
                        f"write subnets.{peer}.cidr",
                    )


RULES = (what_the_type_needs, somebody_selected, known_addresses, no_contradiction)
