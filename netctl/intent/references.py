"""Every name in the file that stands for something else in it: is there such a thing?

Looks at the values as written, so that a mistake elsewhere hides none of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from netctl.errors import InputError
from netctl.intent import defaults, patches
from netctl.intent.findings import SECTIONS, Findings
from netctl.intent.grammar import nearest, path_text
from netctl.intent.walk import Patterns
from netctl.model.base import show
from netctl.model.fault import Fault
from netctl.model.intent import Intent, LabFile

PROTOCOLS = ("tcp", "udp", "icmp", "icmp6", "any")
"""What a service can be without a group."""

DAEMONS = {
    "host": ("ovsdb-server", "ovs-vswitchd", "ovn-controller", "dnsmasq"),
    "switch": ("ovsdb-server", "ovs-vswitchd"),
}
"""Daemons of a node, by the node's kind: targets of `daemon NODE DAEMON`."""

Finding = tuple[str, str] | None
"""What is wrong and what to write instead; None when all is well."""


@dataclass
class Names:
    """Everything that a file names, right or wrong otherwise."""

    by_kind: dict[str, dict[str, None]]
    nics: dict[str, int | None]
    """Number of NICs by VM; None when that is not clear."""
    uplinks: dict[str, list[str]]
    """NICs by host, of the hosts where they are clear."""
    links: set[frozenset[str]]
    unclear: set[str]
    """Kinds of things whose section is not there because it is misspelt or no section."""
    patience: int = 200_000
    """How many names to compare with in all, looking for the one that was meant."""

    @classmethod
    def of(cls, findings: Findings, lab: LabFile) -> Names:
        """What the file names. The model is asked only for what the file leaves out."""
        known = {kind: findings.names(section) for kind, section in SECTIONS.items()}
        known["switch"] = findings.names("fabric", "switches")
        if findings.written("fabric", "switches") is None:
            known["switch"] = list(defaults.DEFAULT_SWITCHES)
        known["cluster"] = findings.names("clusters") or [defaults.DEFAULT_CLUSTER]
        known["virtual switch"] = [*findings.names("virtual_switches"), "vs0"]
        by_kind = {kind: dict.fromkeys(names) for kind, names in known.items()}
        nics: dict[str, int | None] = {}
        for vm in by_kind["VM"]:
            written = findings.written("vms", vm, "nics")
            nics[vm] = len(written) if isinstance(written, list) else 0 if written is None else None
        uplinks: dict[str, list[str]] = {}
        for host in by_kind["host"]:
            named = findings.names("hosts", host, "nics")
            if named or host in lab.hosts:
                uplinks[host] = named or list(defaults.nics(lab, host))
        unclear = {kind for kind, section in SECTIONS.items() if (section,) in findings.broken}
        if findings.broken & {("fabric",), ("fabric", "switches")}:
            unclear.add("switch")
        unclear |= {"cluster"} if ("clusters",) in findings.broken else set()
        unclear |= {"virtual switch"} if ("virtual_switches",) in findings.broken else set()
        return cls(by_kind, nics, uplinks, {frozenset(link) for link in defaults.links(lab)}, unclear)

    @classmethod
    def of_intent(cls, intent: Intent) -> Names:
        """What a right intent names."""
        lab = intent.file
        by_kind: dict[str, dict[str, None]] = {
            kind: dict.fromkeys(getattr(lab, section)) for kind, section in SECTIONS.items()
        }
        by_kind["switch"] = dict.fromkeys(intent.switches)
        by_kind["host"] = dict.fromkeys(intent.hosts)
        return cls(
            by_kind,
            {name: len(vm.nics) for name, vm in lab.vms.items()},
            {name: list(host.nics) for name, host in intent.hosts.items()},
            {frozenset(link) for link in intent.links},
            set(),
        )

    def unknown(self, kind: str, name: str) -> Finding:
        """What is wrong with `name` as the name of such a thing."""
        known = self.by_kind[kind]
        if name in known or kind in self.unclear:
            return None
        what = f"there is no {kind} `{show(name)}`"
        for other, names in self.by_kind.items():
            if name in names:
                what = f"`{name}` is {_a(other)}, not {_a(kind)}"
        return what, self.nearest(name, known) or self._list(kind, list(known))

    def nearest(self, name: str, known: Iterable[str]) -> str:
        """`did you mean ...?`, or nothing; nothing too when a file asks this for too many names."""
        candidates = [other for other in known if abs(len(other) - len(name)) <= 4]
        self.patience -= len(candidates)
        return nearest(name, candidates) if self.patience > 0 else ""

    def _list(self, kind: str, known: list[str]) -> str:
        if not known:
            section = SECTIONS.get(kind)
            return f"this file has none: write one under `{section}:`" if section else "this file has none"
        plural = (
            f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("ch") else f"{kind}s"
        )
        some = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
        return f"the {plural} are {some}" if len(known) > 1 else f"the only {kind} is {some}"

    def any_of(self, kinds: tuple[str, ...], name: str) -> Finding:
        """What is wrong with `name` as the name of one of these kinds of things."""
        found = [kind for kind in kinds if name in self.by_kind[kind]]
        if len(found) == 1 or (not found and self.unclear & set(kinds)):
            return None
        if found:
            return (
                f"`{name}` is both {_a(found[0])} and {_a(found[1])}",
                "give one of them another name, so that it is clear which is meant",
            )
        known = [one for kind in kinds for one in self.by_kind[kind]]
        such = ", ".join(kinds[:-1]) + f" or {kinds[-1]}"
        what = f"there is no {such} `{show(name)}`"
        some = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
        return what, self.nearest(name, known) or (f"write one of {some}" if known else "this file has none")

    def nic(self, text: str, kinds: tuple[str, ...] = ("VM",)) -> Finding:
        """A VM (its first NIC), VM/INDEX, or a thing of the other kinds."""
        name, slash, index = text.partition("/")
        if not slash and name not in self.nics:
            return self.any_of(kinds, name) if len(kinds) > 1 else self.unknown(kinds[0], name)
        finding = self.unknown("VM", name)
        if finding:
            return finding
        count = self.nics.get(name)
        if count == 0:
            return f"the VM `{name}` has no NIC", f"give it one: vms.{name}.nics: [{{subnet: ...}}]"
        if not slash:
            return None
        last = f"write {name}/0" if count == 1 else f"write {name}/0 to {name}/{(count or 1) - 1}"
        if not re.fullmatch(r"[0-9]{1,4}", index, re.ASCII):
            return f"`{show(text)}` is not a NIC", last
        if count is not None and int(index) >= count:
            has = "one NIC, index 0" if count == 1 else f"{count} NICs, counted from 0"
            return f"the VM `{name}` has {has}; there is no {text}", last
        return None


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _one(kind: str) -> Callable[[str, Names], Finding]:
    return lambda text, names: names.unknown(kind, text)


def _nic(text: str, names: Names) -> Finding:
    return names.nic(text)


def _sender(text: str, names: Names) -> Finding:
    if _is_address(text):
        return f"a packet is sent from a VM or a bare machine, not from {text}", "name who has that address"
    return names.nic(text, ("VM", "bare machine"))


def _receiver(text: str, names: Names) -> Finding:
    return None if _is_address(text) else names.nic(text, ("VM", "bare machine"))


def _crossed(text: str, names: Names) -> Finding:
    return names.any_of(("switch", "host"), text)


def _mirrored(text: str, names: Names) -> Finding:
    name, _, device = text.partition("/")
    if name not in names.by_kind["host"]:
        return names.nic(text, ("VM", "host"))
    known = names.uplinks.get(name)
    if known is None or device in known:
        return None
    return (
        f"the host `{name}` has no NIC `{show(device)}`" if device else f"`{name}` is a host: which uplink?",
        f"write {' or '.join(f'{name}/{nic}' for nic in known)}",
    )


def _via(text: str, names: Names) -> Finding:
    """An external subnet, a transit VPC, or an address."""
    if _is_address(text) or text in names.by_kind["subnet"] or text in names.by_kind["VPC"]:
        return None
    return names.any_of(("subnet", "VPC"), text)


def _policy_end(text: str, names: Names) -> Finding:
    """An end of a routing policy."""
    if text in ("any", "external") or _is_address(text) or _is_network(text):
        return None
    finding = names.unknown("subnet", text)
    return finding and (finding[0], f"{finding[1].rstrip('?')}, or an address, a CIDR, external, any")


def _peer(text: str, names: Names) -> Finding:
    if text == "any" or _is_address(text) or _is_network(text):
        return None
    if "/" in text:
        return f"`{show(text)}` is not a network", "write a network and its prefix length, such as 10.0.0.0/8"
    finding = names.any_of(("address group", "subnet", "VPC"), text)
    if finding and text in names.nics:
        return (
            f"`{text}` is a VM: policies name categories",
            "give the VM a category and write {Category: value}",
        )
    return finding


def service_mistake(text: str) -> Finding:
    """What is wrong with a service that is no group: tcp, tcp/80, tcp/80-90, icmp/8."""
    protocol, slash, rest = text.partition("/")
    such = "write it such as tcp/443, udp/5000-5010 or icmp"
    if protocol not in PROTOCOLS or (protocol == "any" and slash):
        return f"`{show(text)}` is not a service", nearest(protocol, list(PROTOCOLS)) or such
    if not slash:
        return None
    numbers = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", rest, re.ASCII)
    if not numbers:
        return f"`{show(text)}` is not a service", such
    if protocol.startswith("icmp"):
        if numbers[2] or int(numbers[1]) > 255:
            return f"`{text}`: an ICMP type is a number up to 255", "write it such as icmp/8"
        return None
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if not 1 <= first <= 65535 or not 1 <= last <= 65535:
        return f"`{text}`: ports go from 1 to 65535", such
    if first > last:
        return f"`{text}` runs backwards", f"write {protocol}/{last}-{first}"
    return None


def _service(text: str, names: Names) -> Finding:
    if text in names.by_kind["service group"]:
        return None
    finding = service_mistake(text)
    if finding and "/" not in text:
        close = names.nearest(text, names.by_kind["service group"])
        return f"`{show(text)}` is neither a service nor a service group", close or finding[1]
    return finding


def _plain_service(text: str, names: Names) -> Finding:
    finding = service_mistake(text)
    if finding and text in names.by_kind["service group"]:
        return f"`{text}` is a service group: groups hold services only", "write its services here"
    return finding


def _backend(text: str, names: Names) -> Finding:
    """VM:PORT, VM/INDEX:PORT or ADDRESS:PORT."""
    owner, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        return f"`{show(text)}` has no port", "write VM:PORT, such as web1:8443"
    return None if _is_address(owner) else names.nic(owner)


def _fault(text: str, names: Names) -> Finding:
    """What can fail: a link, a switch, a host, a function, a daemon."""
    words = text.split()
    verb, rest = (words[0], words[1:]) if words else ("", [])
    forms = {
        "link": "link HOST NIC, or link SWITCH SWITCH",
        "switch": "switch NAME",
        "host": "host NAME",
        "function": "function NAME, or function NAME HOST",
        "daemon": "daemon HOST DAEMON",
    }
    if verb not in forms:
        close = nearest(verb, list(forms))
        return (
            f"`{show(text)}` is nothing that can fail",
            close or f"write one of: {'; '.join(forms.values())}",
        )
    wrong = f"`{show(text)}` does not say enough" if len(rest) < 2 else f"`{show(text)}` says too much"
    if verb in ("switch", "host"):
        return names.unknown(verb, rest[0]) if len(rest) == 1 else (wrong, f"write {forms[verb]}")
    if verb == "function":
        if len(rest) not in (1, 2):
            return wrong, f"write {forms[verb]}"
        finding = names.unknown("network function", rest[0])
        return finding or (names.unknown("host", rest[1]) if len(rest) == 2 else None)
    if len(rest) != 2:
        return wrong, f"write {forms[verb]}"
    if verb == "daemon":
        finding = names.any_of(("host", "switch"), rest[0])
        if finding:
            return finding
        known = DAEMONS["host" if rest[0] in names.by_kind["host"] else "switch"]
        if rest[1] in known:
            return None
        return f"`{rest[0]}` runs no daemon `{show(rest[1])}`", nearest(
            rest[1], list(known)
        ) or f"it runs {', '.join(known)}"
    if rest[0] in names.by_kind["switch"]:
        finding = names.unknown("switch", rest[1])
        if finding is None and frozenset(rest) not in names.links:
            return (
                f"there is no link between {rest[0]} and {rest[1]}",
                "name two switches that fabric.links joins",
            )
        return finding
    finding = names.any_of(("host", "switch"), rest[0])
    if finding:
        return finding
    known_nics = names.uplinks.get(rest[0])
    if known_nics is None or rest[1] in known_nics:
        return None
    return f"the host `{rest[0]}` has no NIC `{show(rest[1])}`", f"its NICs are {', '.join(known_nics)}"


def fault(intent: Intent, text: str) -> Fault:
    """See netctl.intent.fault."""
    finding = _fault(text, Names.of_intent(intent))
    if finding is not None:
        step = finding[1][:1].upper() + finding[1][1:]
        raise InputError(finding[0], step if step.endswith("?") else f"{step}.")
    return Fault.parse(text)


def _healed(text: str, names: Names) -> Finding:
    return None if text == "all" else _fault(text, names)


def _chain(text: str, names: Names) -> Finding:
    finding = names.unknown("service chain", text)
    if finding and text in names.by_kind["network function"]:
        return (
            f"`{text}` is a network function, not a service chain",
            f"write service_chains: {{NAME: {{functions: [{text}]}}}} and name it here",
        )
    return finding


def _function(text: str, names: Names) -> Finding:
    finding = names.unknown("network function", text)
    if finding and text in names.by_kind["service chain"]:
        return f"`{text}` is a service chain: functions belong here", "write its functions here"
    return finding


_PROBE: tuple[tuple[str, Callable[[str, Names], Finding]], ...] = (
    ("from", _sender),
    ("to", _receiver),
    ("through.*", _function),
    ("via.*", _crossed),
)

REFERENCES: Patterns[Callable[[str, Names], Finding]] = Patterns(
    (
        ("fabric.links.*.*", _one("switch")),
        ("fabric.mlag.*.*", _one("switch")),
        ("clusters.*.hosts.*", _one("host")),
        ("hosts.*.nics.*.switch", _one("switch")),
        ("virtual_switches.*.per_host.*=", _one("host")),
        ("subnets.*.virtual_switch", _one("virtual switch")),
        ("subnets.*.vpc", _one("VPC")),
        ("subnets.*.chain", _chain),
        ("subnets.*.clusters.*", _one("cluster")),
        ("vpcs.*.external.*.subnet", _one("subnet")),
        ("vpcs.*.external.*.gateway_hosts.*", _one("host")),
        ("vpcs.*.routes.*.via", _via),
        ("vpcs.*.floating_ips.*", _nic),
        ("vpcs.*.routing_policies.*.from", _policy_end),
        ("vpcs.*.routing_policies.*.to", _policy_end),
        ("vpcs.*.load_balancers.*.backends.*", _backend),
        ("vpcs.*.attach.*", _one("VPC")),
        ("vms.*.host", _one("host")),
        ("vms.*.affinity.*", _one("host")),
        ("vms.*.anti_affinity.*", _one("VM")),
        ("vms.*.nics.*.subnet", _one("subnet")),
        ("vms.*.nics.*.chain", _chain),
        ("vms.*.nics.*.mirror", _mirrored),
        ("physical.*.switch", _one("switch")),
        ("service_groups.*.*", _plain_service),
        ("policies.*.scope.*", _one("VPC")),
        ("policies.*.chain", _chain),
        ("policies.*.inbound.*.from", _peer),
        ("policies.*.outbound.*.to", _peer),
        ("policies.*.inbound.*.services.*", _service),
        ("policies.*.outbound.*.services.*", _service),
        ("policies.*.intra_group.services.*", _service),
        ("policies.*.inbound.*.chain", _chain),
        ("policies.*.outbound.*.chain", _chain),
        ("network_functions.*.hosts.*", _one("host")),
        ("network_functions.*.rules.*.deny", _plain_service),
        ("network_functions.*.rules.*.allow", _plain_service),
        ("service_chains.*.functions.*", _function),
        *((f"checks.*.{key}", check) for key, check in _PROBE),
        *((f"checks.*.steps.*.check.{key}", check) for key, check in _PROBE),
        *((f"checks.*.steps.*.traffic.{key}", check) for key, check in _PROBE),
        ("checks.*.steps.*.fail", _fault),
        ("checks.*.steps.*.heal", _healed),
        ("checks.*.steps.*.migrate.vm", _one("VM")),
        ("checks.*.steps.*.migrate.to", _one("host")),
        ("checks.*.steps.*.rarp.*", _one("subnet")),
    )
)
"""Where references stand, and what each must be."""


def check(lab: LabFile, findings: Findings) -> None:
    """Adds a problem for every reference to something that is not there."""
    names = Names.of(findings, lab)
    wrong = {path for path in findings.broken if isinstance(findings.written(*path), str)}
    later = set(patches.later_steps(lab))
    for path, judge, value in REFERENCES.find(findings.document.data):
        if not isinstance(value, str) or path in wrong or path[:4] in later:
            continue
        finding = judge(value, names)
        if finding is not None:
            findings.error_in_file(
                path, f"{path_text(path)}: {finding[0]}", finding[1], key=path[-2:-1] == ("per_host",)
            )
