"""What the words net.* do, but for those about virtual switches. A network of aCLI is a subnet of the lab.

aCLI is Acropolis' own: what it makes are VLAN basic subnets (seed: "the existing VLANs managed by the
Acropolis leader"). `type=vlan` makes one of the network controller's, which AHV has from Prism Central.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Interface, NetmaskValueError
from typing import Any

from netctl.cli.acli import finding
from netctl.cli.acli.answers import Answer, blocks, table
from netctl.cli.acli.parser import Call
from netctl.cli.acli.task import Task
from netctl.cli.operations import Edit, Running
from netctl.model.intent import Intent


def create(intent: Intent, call: Call) -> Task:
    """net.create."""
    name = finding.new_name(call, "network", call.names[0], intent.file.subnets)
    subnet = {"type": call.values.get("type", "vlan-basic"), **_said(intent, call)}
    notes = [f"{call.names[0]} is called {name} here"] if name != call.names[0] else []
    return Task(Edit({"subnets": {name: subnet}}), [name], notes)


def update(intent: Intent, call: Call) -> Task:
    """net.update: whatever is not named stays."""
    name = finding.network(intent, call, call.names[0])
    changed = _said(intent, call)
    if not changed:
        raise call.wrong("nothing to change")
    if "cidr" in changed:
        changed = {"gateway": None, "pool": None, "dhcp_server": None, **changed}
    return Task(Edit({"subnets": {name: changed}}), [name])


def delete(intent: Intent, call: Call) -> Task:
    """net.delete."""
    names = finding.networks(intent, call, call.names[0])
    for name in names:
        if user := _user_of(intent, name):
            raise call.wrong(f"{name} is used by {user}", "Take that off it first.")
    return Task(Edit({"subnets": dict.fromkeys(names)}), names)


def add_pool(intent: Intent, call: Call) -> Task:
    """net.add_dhcp_pool: with the first pool, the addresses outside are no longer assigned."""
    name = finding.network(intent, call, call.names[0])
    pool = [*_pool(intent, name), f"{call.values['start']}-{call.values['end']}"]
    return Task(Edit({"subnets": {name: {"pool": pool}}}), [name])


def delete_pool(intent: Intent, call: Call) -> Task:
    """net.delete_dhcp_pool."""
    name = finding.network(intent, call, call.names[0])
    pool = _pool(intent, name)
    left = [part for part in pool if part.partition("-")[0] != call.values["start"]]
    if left == pool:
        starts = ", ".join(part.partition("-")[0] for part in pool) or "none"
        raise call.wrong(
            f"{name} has no pool from {call.values['start']} on", f"Its pools start at: {starts}."
        )
    return Task(Edit({"subnets": {name: {"pool": left or None}}}), [name])


def update_dns(intent: Intent, call: Call) -> Task:
    """net.update_dhcp_dns."""
    name = finding.network(intent, call, call.names[0])
    changed: dict[str, Any] = {}
    if "servers" in call.values:
        changed["dns"] = call.list("servers")
    if "domains" in call.values:
        if len(domains := call.list("domains")) != 1:
            raise call.wrong("a network of a lab has one domain")
        changed["domain"] = domains[0]
    if not changed:
        raise call.wrong("nothing to change")
    return Task(Edit({"subnets": {name: changed}}), [name])


def list_(running: Running, call: Call) -> Answer:
    """net.list."""
    intent = running.intent
    rows = [
        (
            name,
            finding.uuid(intent, "network", name),
            "kOverlay" if subnet.type == "overlay" else "kBridged",
            subnet.vpc if subnet.type == "overlay" else subnet.vlan,
            subnet.cidr,
        )
        for name, subnet in sorted(intent.file.subnets.items())
    ]
    return table(("Network name", "Network UUID", "Type", "Identifier", "Subnet"), rows)


def get(running: Running, call: Call) -> Answer:
    """net.get."""
    intent = running.intent
    return blocks({name: _facts(intent, name) for name in finding.networks(intent, call, call.names[0])})


def list_vms(running: Running, call: Call) -> Answer:
    """net.list_vms."""
    intent = running.intent
    name = finding.network(intent, call, call.names[0])
    rows = [
        (finding.uuid(intent, "VM", port.vm), port.vm, port.mac, port.ip)
        for port in intent.ports
        if port.subnet == name
    ]
    return table(("VM UUID", "VM name", "MAC address", "IP address"), rows)


def _facts(intent: Intent, name: str) -> dict[str, Any]:
    subnet = intent.file.subnets[name]
    facts: dict[str, Any] = {
        "identifier": subnet.vpc if subnet.type == "overlay" else subnet.vlan,
        "name": name,
        "subnet_type": subnet.type,
        "type": "kOverlay" if subnet.type == "overlay" else "kBridged",
        "uuid": finding.uuid(intent, "network", name),
    }
    if subnet.type != "overlay":
        facts["virtual_switch"] = subnet.switch
        facts["vswitch_name"] = f"br{subnet.switch[2:]}"
    if subnet.cidr is not None:
        facts["ip_config"] = {
            "default_gateway": None if subnet.router is None else str(subnet.router),
            "dhcp_server_address": None if subnet.dhcp_address is None else str(subnet.dhcp_address),
            "dhcp_options": {
                "domain_name": subnet.domain,
                "domain_name_servers": ",".join(map(str, subnet.dns)) or None,
            },
            "network_address": str(subnet.cidr.network_address),
            "pool": [{"range": f"{part.first} {part.last}"} for part in subnet.pool or ()],
            "prefix_length": subnet.cidr.prefixlen,
        }
    return facts


def _said(intent: Intent, call: Call) -> dict[str, Any]:
    """What a call says of a network, as keys of the subnet."""
    said = call.values
    new: dict[str, Any] = {}
    if "vlan" in said:
        if not said["vlan"].isdigit() or not said["vlan"].isascii():
            raise call.wrong(f"vlan={said['vlan']} is no VLAN", "Write a VLAN ID, 1 to 4094.")
        new["vlan"] = int(said["vlan"])
    switch = said.get("virtual_switch", said.get("vswitch_name"))
    if switch is not None:
        new["virtual_switch"] = finding.switch(intent, call, switch)
    if "ip_config" in said:
        new |= _addresses(call, said["ip_config"])
    if "dhcp_address" in said:
        new["dhcp_server"] = said["dhcp_address"]
    if "mtu" in said:
        new["mtu"] = octets(call)
    return new


def octets(call: Call) -> int:
    """The number behind mtu=."""
    if not call.values["mtu"].isdigit():
        raise call.wrong(f"mtu={call.values['mtu']} is no number", "Write octets, such as mtu=1500.")
    return int(call.values["mtu"])


def _addresses(call: Call, text: str) -> dict[str, str]:
    """10.10.0.1/24: the gateway and its network; the network's own address stands for no gateway."""
    try:
        interface = IPv4Interface(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise call.wrong(
            f"ip_config={text} is no address with a length",
            "Write the gateway and the length, such as 10.10.0.1/24.",
        ) from None
    if "/" not in text:
        raise call.wrong(
            f"ip_config={text} has no length", f"Write the network's with it: ip_config={text}/24"
        )
    found = {"cidr": str(interface.network)}
    if interface.ip != interface.network.network_address:
        found["gateway"] = str(interface.ip)
    return found


def _pool(intent: Intent, name: str) -> list[str]:
    def key(text: str) -> IPv4Address:
        return IPv4Address(text.partition("-")[0])

    return sorted((f"{part.first}-{part.last}" for part in intent.file.subnets[name].pool or ()), key=key)


def _user_of(intent: Intent, name: str) -> str | None:
    """What a subnet is needed by; None where it may go."""
    users = [port.name for port in intent.ports if port.subnet == name]
    users += [
        f"VPC {vpc}" for vpc, it in intent.file.vpcs.items() if name in {each.subnet for each in it.external}
    ]
    return ", ".join(users[:5]) + (", ..." if len(users) > 5 else "") if users else None
