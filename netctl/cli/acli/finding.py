"""What the names in a call mean: AHV's are free text, a lab's are lower-case letters, digits and dashes.

A name is found as it is written, else by its nearest spelling (fooVM is foovm), else by its UUID. UUIDs are
made from names, so that they are the same each time; a lab keeps none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from uuid import UUID, uuid5

from netctl.cli.acli.parser import Call
from netctl.cli.acli.words import nearest
from netctl.model.base import as_name
from netctl.model.intent import Intent, Mirror, Port

_NAMESPACE = UUID("7c1d5a9e-5b0f-4f0a-9d6b-2f6e7463746c")

Nic = Port | Mirror
"""A NIC of a VM: in a subnet, or one that mirrors."""

_MOST_NAMED = 12


def uuid(intent: Intent, kind: str, name: str) -> str:
    """The UUID of a thing of a lab."""
    return str(uuid5(_NAMESPACE, f"{intent.name} {kind} {name}"))


def nic_uuid(intent: Intent, nic: Nic) -> str:
    """The UUID of a NIC; it goes with its MAC address, as its index may change."""
    return uuid(intent, "nic", f"{nic.vm} {nic.mac}")


def new_name(call: Call, kind: str, text: str, there: Collection[str]) -> str:
    """The name that a new thing gets."""
    name = as_name(text)
    if not name:
        raise call.wrong(f"nothing of {text} can be in a name", "A name begins with a letter, such as web1.")
    if name in there:
        raise call.wrong(
            f"there is {'an' if kind[0] in 'aeiou' else 'a'} {kind} {name} already", "Choose another name."
        )
    return name


def vm(intent: Intent, call: Call, text: str) -> str:
    """The VM that a name means."""
    return _find(intent, call, "VM", text, intent.file.vms, "vm.create makes one")


def vms(intent: Intent, call: Call, text: str) -> list[str]:
    """The VMs that names with commas and `*` mean."""
    return _several(call, "VM", text, intent.file.vms, lambda each: vm(intent, call, each))


def host(intent: Intent, call: Call, text: str) -> str:
    """The host that a name, an address or a UUID means."""
    for name, each in intent.hosts.items():
        if text == str(each.address.ip):
            return name
    return _find(intent, call, "host", text, intent.hosts, "")


def switch(intent: Intent, call: Call, text: str) -> str:
    """The virtual switch that its name, or its bridge's, means."""
    spelled = re.sub(r"^br(?=[0-9]+$)", "vs", text)
    made = "net.create_virtual_switch makes one"
    return _find(intent, call, "virtual switch", spelled, intent_switches(intent), made)


def intent_switches(intent: Intent) -> list[str]:
    """The virtual switches of a lab: vs0 and those of the file."""
    return sorted({"vs0", *(intent.file.virtual_switches or {})}, key=lambda name: int(name[2:]))


def networks(intent: Intent, call: Call, text: str) -> list[str]:
    """The subnets that names with commas and `*` mean."""
    return _several(call, "network", text, intent.file.subnets, lambda each: network(intent, call, each))


def network(intent: Intent, call: Call, text: str) -> str:
    """The subnet that a name means; `vlan.10` is the one with VLAN 10 where none has that name."""
    subnets = intent.file.subnets
    if text not in subnets and (as_vlan := re.fullmatch(r"vlan[._-]?([0-9]+)", text.lower(), re.ASCII)):
        if as_name(text) in subnets:
            return as_name(text)
        found = [name for name, subnet in subnets.items() if subnet.vlan == int(as_vlan[1])]
        if len(found) == 1:
            return found[0]
        if found:
            raise call.wrong(
                f"VLAN {as_vlan[1]} is on several networks", f"Name one: {', '.join(sorted(found))}."
            )
        raise call.wrong(
            f"there is no network {text}, and none with VLAN {as_vlan[1]}",
            f"Make it: net.create {text} vlan={as_vlan[1]}. There are {_some(subnets)}.",
        )
    return _find(intent, call, "network", text, subnets, "net.create makes one")


def nics(intent: Intent, name: str) -> list[Nic]:
    """The NICs of a VM, by index."""
    every: list[Nic] = [*intent.ports, *intent.mirrors]
    return sorted((nic for nic in every if nic.vm == name), key=lambda nic: nic.index)


def nic(intent: Intent, call: Call, owner: str, text: str) -> Nic:
    """The NIC of a VM that a MAC address (or a UUID) means."""
    there = nics(intent, owner)
    for each in there:
        if text.lower() in (each.mac, nic_uuid(intent, each)):
            return each
    if not there:
        raise call.wrong(f"{owner} has no NIC", f"vm.nic_create {owner} network=NETWORK plugs one in.")
    shown = ", ".join(f"{each.mac} ({each.guest_device})" for each in there)
    raise call.wrong(f"{owner} has no NIC {text}", f"Its NICs are {shown}.")


def _several(call: Call, kind: str, text: str, there: Iterable[str], find: Callable[[str], str]) -> list[str]:
    found: list[str] = []
    for part in filter(None, text.split(",")):
        if "*" in part:
            matching = sorted(name for name in there if fnmatchcase(name, part.lower()))
            if not matching:
                raise call.wrong(f"no {kind} is called {part}", f"There are {_some(there)}.")
            found += matching
        else:
            found.append(find(part))
    return list(dict.fromkeys(found))


def _find(intent: Intent, call: Call, kind: str, text: str, there: Collection[str], made: str) -> str:
    for name in (text, as_name(text)):
        if name in there:
            return name
    for name in there:
        if text.lower() == uuid(intent, kind, name):
            return name
    near = nearest(as_name(text), list(there))
    known = f"There are {_some(there)}" if there else "There is none yet"
    raise call.wrong(f"there is no {kind} {text}{near}", f"{known}{'; ' + made if made else ''}.")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MOST_NAMED]) + (", ..." if len(ordered) > _MOST_NAMED else "")
