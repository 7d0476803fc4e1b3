"""Subnets and NICs: a logical switch each, with a port per NIC and the way to the VLAN (ovn-nb(5))."""

from __future__ import annotations

from netctl.compile import dhcp, dns, external, load_balancers, trunks
from netctl.compile.names import Names
from netctl.compile.rows import Rows, refs
from netctl.model.intent import Intent, Port
from netctl.model.state import Ref
from netctl.model.subnet import SubnetType

OVN_TYPES: frozenset[SubnetType] = frozenset({"vlan", "overlay", "external"})
"""The subnets that OVN carries; the others are bridged by Open vSwitch alone."""


def compile_subnets(intent: Intent, names: Names, rows: Rows) -> None:
    """A logical switch for each subnet that OVN carries."""
    members: dict[str, list[Port]] = {name: [] for name in intent.file.subnets}
    for port in intent.ports:
        members[port.subnet].append(port)
    carried = [name for name, subnet in intent.file.subnets.items() if subnet.type in OVN_TYPES]
    children = trunks.children(intent, OVN_TYPES, names, rows)
    for name in carried:
        subnet = intent.file.subnets[name]
        why = f"subnet {name}"
        options = dhcp.compile_dhcp(intent, name, names, rows)
        ports = [_nic(port, options, intent.forwards(port), names, rows) for port in members[name]]
        guests = list(ports)
        if subnet.vlan is not None:
            vlan = subnet.switch, subnet.vlan
            guests += children.get(vlan, [])
            ports.append(trunks.localnet(names.localnet(name, subnet.switch), vlan, why, rows))
            ports += children.pop(vlan, [])
        if subnet.vpc is not None and (subnet.cidr or subnet.cidr6):
            ports.append(
                rows.add(
                    "Logical_Switch_Port",
                    names.to_router(name, subnet.vpc),
                    why,
                    type="router",
                    addresses=("router",),
                    options={"router-port": names.router_port(subnet.vpc, name)},
                )
            )
        ports += external.switch_ports(intent, name, names, rows)
        if options:
            dhcp.forbid_servers(name, guests, names, rows)
        rows.add(
            "Logical_Switch",
            names.switch(name),
            why,
            ports=refs(ports),
            dns_records=dns.references(intent, name, names),
            load_balancer=load_balancers.references(intent, subnet.vpc, names) if subnet.vpc else (),
        )
    trunks.compile_unnamed(children, names, rows)
    dns.compile_dns(intent, carried, names, rows)


def _nic(port: Port, options: tuple[Ref, ...], forwards: bool, names: Names, rows: Rows) -> Ref:
    """The port of a NIC.

    A known address is answered by OVN wherever it is asked for. Without port security others may live behind
    the NIC, so frames to unknown addresses reach it as well. Who `forwards` for others sends and gets their
    packets: only its MAC address is held to.
    """
    address = " ".join(map(str, (port.mac, *port.addresses)))
    held = port.mac if forwards else address
    return rows.add(
        "Logical_Switch_Port",
        names.nic(port),
        f"vm {port.vm}",
        addresses=(address,) if port.port_security else (address, "unknown"),
        port_security=(held,) if port.port_security else (),
        enabled=None if port.enabled else False,
        dhcpv4_options=options if port.ip is not None else (),
        # A guest announces itself. ovn-controller would as well, for each NIC, over and over for a minute.
        options={"disable_garp_rarp": "true", "requested-chassis": names.chassis(port.host)},
    )
