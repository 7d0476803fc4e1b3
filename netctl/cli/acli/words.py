"""aCLI's words as data: how they are called, what they take, what they do here.

Names and keys are AHV's (Acropolis command-line reference, AHV networking guide); docs/acli.md says which are
netctl's own. Nothing heavy is imported here: completion asks at each press of Tab.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FLAG = "true|false"
MODES = "kAccess|kTrunked"
BONDS = "kActiveBackup|kBalanceSlb|kBalanceTcp|kNoUplinkBond"


@dataclass(frozen=True)
class Word:
    """A command.

    `verb` is the module and function that do it. `names` are what comes first, without keys; a name that ends
    in `...` may be several with commas, and have `*` in it; one in brackets may be left out. `keys` map to
    what stands for their value in the usage, where a `|` is a choice of words. `needed` are keys that must be
    there, `idle` those that aCLI has and that mean nothing to a lab, with why.
    """

    verb: str
    help: str
    names: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    idle: Mapping[str, str] = field(default_factory=dict)


def _idle(why: str, *keys: str) -> dict[str, str]:
    return dict.fromkeys(keys, why)


_NO_MACHINE = _idle(
    "a VM here is a network namespace", "num_vcpus", "num_cores_per_vcpu", "memory", "uefi_boot", "annotation"
)
_AT_ONCE = _idle("hosts of a lab need no maintenance mode", "quick_mode", "force", "rolling")
_NO_NOTES = _idle("a lab keeps no notes", "annotation", "description")

_NIC_KEYS = {
    "network": "NETWORK",
    "vlan_mode": MODES,
    "trunked_networks": "VLAN,...",
    "ip": "ADDRESS",
    "request_ip": FLAG,
    "mac": "MAC",
    "connected": FLAG,
    "type": "kNormalNic|kSpanDestinationNic",
    "mirror": "VM/NIC|HOST/UPLINK",
    "rate": "RATE",
}
_NIC_IDLE = {
    **_idle("a lab's NICs have one queue", "queues"),
    **_idle("a lab's NICs have no hardware", "model", "pci_address"),
}
_NETWORK_KEYS = {
    "vlan": "VLAN",
    "ip_config": "GATEWAY/LENGTH",
    "virtual_switch": "SWITCH",
    "vswitch_name": "BRIDGE",
    "dhcp_address": "ADDRESS",
    "mtu": "OCTETS",
}
_SWITCH_KEYS = {
    "bond_type": BONDS,
    "uplinks": "UPLINK,...",
    "host_uplink_config": "{HOST:UPLINK,...;...}",
    "mtu": "OCTETS",
    "lacp_fallback": FLAG,
}
_SWITCH_IDLE = {
    **_AT_ONCE,
    **_NO_NOTES,
    **_idle("LACP timers are always fast", "lacp_timeout"),
}

WORDS: Mapping[str, Word] = {
    "vm.create": Word("vms:create", "Make VMs without NICs.", ("VM...",), {"host": "HOST"}, idle=_NO_MACHINE),
    "vm.delete": Word(
        "vms:delete", "Remove VMs.", ("VM...",), idle=_idle("a lab has no snapshots", "delete_snapshots")
    ),
    "vm.list": Word("vms:list_", "List VMs."),
    "vm.get": Word("vms:get", "Show VMs with their NICs.", ("VM...",)),
    "vm.on": Word(
        "vms:on", "Connect all NICs of VMs.", ("VM...",), idle=_idle("vm.affinity_set moves a VM", "host")
    ),
    "vm.off": Word("vms:off", "Disconnect all NICs of VMs.", ("VM...",)),
    "vm.shutdown": Word("vms:off", "As vm.off.", ("VM...",)),
    "vm.affinity_set": Word(
        "vms:affinity_set", "Bind VMs to hosts.", ("VM...",), {"host_list": "HOST,..."}, ("host_list",)
    ),
    "vm.affinity_unset": Word("vms:affinity_unset", "Let VMs run on any host.", ("VM...",)),
    "vm.nic_create": Word("nics:create", "Plug a NIC into a VM.", ("VM",), _NIC_KEYS, idle=_NIC_IDLE),
    "vm.nic_list": Word("nics:list_", "List the NICs of a VM.", ("VM",)),
    "vm.nic_get": Word("nics:get", "Show the NICs of a VM, or one of them.", ("VM", "[MAC]")),
    "vm.nic_update": Word(
        "nics:update",
        "Change a NIC of a VM.",
        ("VM", "MAC"),
        {**_NIC_KEYS, "update_vlan_trunk_info": FLAG},
        idle=_NIC_IDLE,
    ),
    "vm.nic_delete": Word("nics:delete", "Plug a NIC out of a VM.", ("VM", "MAC")),
    "net.create": Word(
        "networks:create",
        "Make a network.",
        ("NETWORK",),
        {**_NETWORK_KEYS, "type": "vlan-basic|vlan"},
        ("vlan",),
        _NO_NOTES,
    ),
    "net.update": Word("networks:update", "Change a network.", ("NETWORK",), _NETWORK_KEYS, idle=_NO_NOTES),
    "net.delete": Word("networks:delete", "Remove networks.", ("NETWORK...",)),
    "net.list": Word("networks:list_", "List networks."),
    "net.get": Word("networks:get", "Show a network.", ("NETWORK...",)),
    "net.list_vms": Word("networks:list_vms", "List the VMs of a network.", ("NETWORK",)),
    "net.add_dhcp_pool": Word(
        "networks:add_pool",
        "Give a network addresses to assign.",
        ("NETWORK",),
        {"start": "ADDRESS", "end": "ADDRESS"},
        ("start", "end"),
    ),
    "net.delete_dhcp_pool": Word(
        "networks:delete_pool",
        "Take addresses to assign from a network.",
        ("NETWORK",),
        {"start": "ADDRESS"},
        ("start",),
    ),
    "net.update_dhcp_dns": Word(
        "networks:update_dns",
        "Say what DHCP tells about DNS.",
        ("NETWORK",),
        {"servers": "ADDRESS,...", "domains": "DOMAIN"},
    ),
    "net.create_virtual_switch": Word(
        "switches:create", "Make a virtual switch.", ("SWITCH",), _SWITCH_KEYS, idle=_SWITCH_IDLE
    ),
    "net.update_virtual_switch": Word(
        "switches:update", "Change a virtual switch.", ("SWITCH",), _SWITCH_KEYS, idle=_SWITCH_IDLE
    ),
    "net.delete_virtual_switch": Word(
        "switches:delete", "Remove a virtual switch.", ("SWITCH",), idle=_AT_ONCE
    ),
    "net.list_virtual_switch": Word("switches:list_", "List virtual switches."),
    "net.get_virtual_switch": Word("switches:get", "Show a virtual switch.", ("SWITCH",)),
    "host.list": Word("hosts:list_", "List hosts."),
    "host.get": Word("hosts:get", "Show a host.", ("HOST",)),
    "host.list_vms": Word("hosts:list_vms", "List the VMs of a host.", ("HOST",)),
    "help": Word("help:show", "Show the words, or how one is used.", ("[WORD]",)),
}

ELSEWHERE: Mapping[str, str] = {
    "vm.disk_": "VMs of a lab have no disks",
    "vm.migrate": "netctl has no live migration yet; vm.affinity_set moves a VM by starting it anew",
    "vm.clone": "write the VM again with vm.create and vm.nic_create",
    "vm.snapshot_": "a lab has no snapshots; `netctl export` keeps it as a file",
    "vm.update": "a VM of a lab has no CPUs and no memory of its own; its NICs change with vm.nic_update",
    "host.enter_maintenance_mode": "`netctl fail host NAME` takes a host away",
    "host.exit_maintenance_mode": "`netctl heal host NAME` gives a host back",
    "net.create_span_session": "vm.nic_create VM type=kSpanDestinationNic mirror=VM/NIC",
    "image.": "a lab has no images",
    "vg.": "a lab has no volumes",
    "snapshot.": "a lab has no snapshots",
    "pd.": "a lab has no protection domains",
}
"""What else aCLI has: where to go instead, by how the word begins."""


def usage(name: str) -> str:
    """How a word is used, in a line."""
    word = WORDS[name]
    parts = [name, *word.names]
    for key, value in word.keys.items():
        part = f"{key}={value}"
        parts.append(part if key in word.needed else f"[{part}]")
    return " ".join(parts)


def choices(value: str) -> list[str]:
    """The words that a value is one of, by what stands for it in the usage; empty where any may stand."""
    return value.split("|") if "|" in value and "/" not in value else []


def nearest(text: str, known: Sequence[str]) -> str:
    """`; did you mean X?`, or nothing."""
    near = difflib.get_close_matches(text.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def complete(written: Sequence[str]) -> list[str]:
    """What the last of some written words may become: a word of aCLI, a key, a choice."""
    *before, last = written or [""]
    if not before or before == ["help"]:
        return [name for name in WORDS if name.startswith(last)]
    word = WORDS.get(before[0])
    if word is None:
        return []
    key, equals, value = last.partition("=")
    if equals:
        known = choices(word.keys.get(key, ""))
        return [f"{key}={choice}" for choice in known if choice.startswith(value)]
    there = {part.partition("=")[0] for part in before}
    return [f"{name}=" for name in word.keys if name.startswith(last) and name not in there]
