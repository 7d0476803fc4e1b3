"""What the words vm.nic_* do."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from netctl.cli.acli import finding
from netctl.cli.acli.answers import Answer, blocks, table
from netctl.cli.acli.parser import Call
from netctl.cli.acli.task import Task
from netctl.cli.operations import Edit, Running
from netctl.intent.patches import plain
from netctl.model.intent import Assignments, Intent, Mirror

_IN_NETWORKS = ("subnet", "ip", "mode", "trunked", "chain", "categories", "port_security")
"""Keys of a NIC that one that mirrors does not have."""


def create(intent: Intent, call: Call) -> Task:
    """vm.nic_create: the new NIC is the VM's last."""
    vm = finding.vm(intent, call, call.names[0])
    if "network" not in call.values and "mirror" not in call.values:
        step = "mirror=VM/NIC or mirror=HOST/UPLINK" if _is_span(call) else "network=NETWORK"
        raise call.wrong("a NIC needs a network", f"Write {step}: what it is connected to.")
    nics = [*_written(intent, vm), _changed(intent, call, vm, {})]
    return Task(Edit({"vms": {vm: {"nics": nics}}}), ["NicCreate"])


def update(intent: Intent, call: Call) -> Task:
    """vm.nic_update: whatever is not named stays."""
    vm = finding.vm(intent, call, call.names[0])
    nic = finding.nic(intent, call, vm, call.names[1])
    if not call.values:
        raise call.wrong("nothing to change")
    nics = _written(intent, vm)
    nics[nic.index] = _changed(intent, call, vm, nics[nic.index])
    return Task(Edit({"vms": {vm: {"nics": nics}}}), ["NicUpdate"])


def delete(intent: Intent, call: Call) -> Task:
    """vm.nic_delete: the NICs behind it move up, as in the file, and keep their MAC and IP addresses."""
    vm = finding.vm(intent, call, call.names[0])
    nic = finding.nic(intent, call, vm, call.names[1])
    if user := user_of(intent, vm, nic.index):
        raise call.wrong(f"{user} names {vm}/{nic.index} or a NIC behind it", "Change that first.")
    nics = _written(intent, vm)
    del nics[nic.index]
    edit = Edit(
        {"vms": {vm: {"nics": nics}}},
        _moved_up(intent.assignments, vm, nic.index, len(nics)),
        _checks_with(intent, vm, nic.index),
    )
    moved = [f"{vm}'s eth{index + 1} is eth{index} now" for index in range(nic.index, len(nics))]
    return Task(edit, ["NicDelete"], moved)


def list_(running: Running, call: Call) -> Answer:
    """vm.nic_list."""
    intent = running.intent
    vm = finding.vm(intent, call, call.names[0])
    rows = []
    for nic in finding.nics(intent, vm):
        about = facts(intent, nic)
        network = about.get("network_name") or f"copies of {about['mirror']}"
        shown = (about["uuid"], nic.mac, about["ip_address"], network, about["vlan_mode"], about["connected"])
        rows.append(shown)
    columns = ("NIC UUID", "MAC address", "IP address", "Network name", "VLAN mode", "Connected")
    return table(columns, rows)


def get(running: Running, call: Call) -> Answer:
    """vm.nic_get."""
    intent = running.intent
    vm = finding.vm(intent, call, call.names[0])
    there = finding.nics(intent, vm)
    if len(call.names) > 1:
        there = [finding.nic(intent, call, vm, call.names[1])]
    return blocks({nic.mac: facts(intent, nic) for nic in there})


def facts(intent: Intent, nic: finding.Nic) -> dict[str, Any]:
    """A NIC as aCLI tells it."""
    found: dict[str, Any] = {
        "connected": nic.enabled,
        "ip_address": None,
        "mac_addr": nic.mac,
        "rate": nic.rate,
        "type": "kNormalNic",
        "uuid": finding.nic_uuid(intent, nic),
        "vlan_mode": None,
    }
    if isinstance(nic, Mirror):
        return found | {"type": "kSpanDestinationNic", "mirror": nic.source}
    return found | {
        "ip_address": None if nic.ip is None else str(nic.ip),
        "network_name": nic.subnet,
        "network_uuid": finding.uuid(intent, "network", nic.subnet),
        "trunked_networks": list(nic.trunked),
        "vlan_mode": "kTrunked" if nic.mode == "trunk" else "kAccess",
    }


def linked(nic: Mapping[str, Any], up: bool) -> dict[str, Any]:
    """A NIC of the file with its link up or down."""
    rest = {key: value for key, value in nic.items() if key != "link"}
    return rest if up else {**rest, "link": "down"}


def _written(intent: Intent, vm: str) -> list[dict[str, Any]]:
    """The NICs of a VM as the file has them."""
    return list(plain(intent.file)["vms"][vm].get("nics", []))


def _is_span(call: Call) -> bool:
    return call.values.get("type") == "kSpanDestinationNic"


def _changed(intent: Intent, call: Call, vm: str, nic: Mapping[str, Any]) -> dict[str, Any]:
    """A NIC of a VM in the file, with what a call says of it."""
    new = dict(nic)
    said = call.values
    if "mirror" in said:
        for key in _IN_NETWORKS:
            new.pop(key, None)
        new["mirror"] = _mirrored(intent, call, vm, said["mirror"])
    if "network" in said:
        new.pop("mirror", None)
        new["subnet"] = finding.network(intent, call, said["network"])
        if not _fits(intent, new):
            del new["ip"]  # it was of the network that it leaves
    if call.flag("request_ip"):
        new.pop("ip", None)
    if "ip" in said:
        new["ip"] = said["ip"]
    if "mac" in said:
        new["mac"] = said["mac"]
    mode = said.get("vlan_mode", "kTrunked" if "trunked_networks" in said else None)
    if mode == "kTrunked":
        new["mode"] = "trunk"
    elif mode == "kAccess":
        new.pop("mode", None)
        new.pop("trunked", None)
    if "trunked_networks" in said:
        new["trunked"] = [_vlan(call, text) for text in call.list("trunked_networks")]
    if "rate" in said:
        new["rate"] = said["rate"]
        if said["rate"] == "none":
            del new["rate"]
    connected = call.flag("connected")
    return new if connected is None else linked(new, connected)


def _fits(intent: Intent, nic: Mapping[str, Any]) -> bool:
    """Whether the address that a NIC has is one of its network's."""
    cidr = intent.file.subnets[nic["subnet"]].cidr
    try:
        return "ip" not in nic or (cidr is not None and IPv4Address(nic["ip"]) in cidr)
    except AddressValueError:
        return True  # it asks by DHCP


def _vlan(call: Call, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII):
        raise call.wrong(f"trunked_networks: {text} is no VLAN", "Write VLAN IDs with commas: 10,20,30.")
    return int(text)


def _mirrored(intent: Intent, call: Call, vm: str, text: str) -> str:
    """What a VM's NIC mirrors: a NIC (VM, VM/INDEX) or an uplink (HOST/ethN); copies stay on their host."""
    owner, slash, rest = text.partition("/")
    bound = [vm]
    if rest.startswith("eth"):
        owner = finding.host(intent, call, owner)
    else:
        owner = finding.vm(intent, call, owner)
        bound += [owner] if owner != vm else []
    for each in bound if owner != vm else []:
        definition = intent.file.vms[each]
        if definition.host is None and len(definition.affinity) != 1:
            raise call.wrong(
                f"copies stay on their host, and {each} may be on any",
                f"vm.affinity_set {each} host_list={intent.placement[each]} binds it to its present one.",
            )
    return owner + slash + rest


# --- who else names a NIC --------------------------------------------------------------------------


def user_of(intent: Intent, vm: str, index: int, but: Collection[str] = ()) -> str | None:
    """What in the file, checks aside, names a NIC of a VM from this index on, but for VMs in `but`."""
    for name, vpc in intent.file.vpcs.items():
        for address, target in vpc.floating_ips.items():
            if _names(target, vm, index):
                return f"vpcs.{name}.floating_ips.{address}"
        for balancer, its in vpc.load_balancers.items():
            if any(_names(backend.rpartition(":")[0], vm, index) for backend in its.backends):
                return f"vpcs.{name}.load_balancers.{balancer}"
    for name, other in intent.file.vms.items():
        for number, nic in enumerate(other.nics):
            goes_itself = name == vm and number == index
            if (
                nic.mirror is not None
                and name not in but
                and not goes_itself
                and _names(nic.mirror, vm, index)
            ):
                return f"vms.{name}.nics[{number}].mirror"
    return None


def _names(text: str, vm: str, index: int) -> bool:
    owner, _, number = text.partition("/")
    return owner == vm and (number or "0").isdigit() and int(number or 0) >= index


def _checks_with(intent: Intent, vm: str, index: int) -> frozenset[int]:
    """The checks that name a NIC of a VM from this index on: they would mean another one."""
    found = set()
    for number, check in enumerate(intent.file.checks):
        probes = [
            check,
            *(probe for step in check.steps or () for probe in (step.check, step.traffic) if probe),
        ]
        if any(_names(end, vm, index) for probe in probes for end in (probe.from_, probe.to) if end):
            found.add(number)
    return frozenset(found)


def _moved_up(assignments: Assignments, vm: str, gone: int, left: int) -> Assignments:
    """The same assignments, with those of the NICs behind the one that goes at their new index."""
    nics = {name: entry for name, entry in assignments.nics.items() if name.partition("/")[0] != vm}
    for index in range(left):
        nics[f"{vm}/{index}"] = assignments.nics[f"{vm}/{index if index < gone else index + 1}"]
    return replace(assignments, nics=nics)
