"""Trunked NICs on VLAN subnets (ovn-nb(5), parent_name): a port of its own in each VLAN but the native one.

OVN gives such a child port the frames that come in by its parent's tap with its tag, less the tag, and puts
the tag on what it sends there. A tag that is no child's belongs to nobody and is dropped, and so is a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netctl.compile.names import Names
from netctl.compile.rows import Rows, refs
from netctl.model.intent import Intent, Port
from netctl.model.state import Ref
from netctl.model.subnet import SubnetType

Vlan = tuple[str, int]
"""A VLAN of a virtual switch."""


def tagged(intent: Intent, types: frozenset[SubnetType]) -> Iterator[tuple[Port, Vlan]]:
    """The NICs on subnets of these types that are trunks, once for each VLAN that they carry tagged."""
    for port in intent.ports:
        subnet = intent.file.subnets[port.subnet]
        if port.mode == "trunk" and subnet.type in types:
            for vlan in sorted({*port.trunked} - {subnet.vlan}):
                yield port, (subnet.switch, vlan)


def children(intent: Intent, types: frozenset[SubnetType], names: Names, rows: Rows) -> dict[Vlan, list[Ref]]:
    """A port for each trunked NIC in each VLAN that it has tagged.

    The guest's address there is its own business: its MAC address is what it may send with.
    """
    found: dict[Vlan, list[Ref]] = {}
    for port, vlan in tagged(intent, types):
        found.setdefault(vlan, []).append(
            rows.add(
                "Logical_Switch_Port",
                names.trunked(port, vlan[1]),
                f"vm {port.vm}",
                parent_name=names.nic(port),
                tag=vlan[1],
                tag_request=vlan[1],
                addresses=(port.mac,) if port.port_security else (port.mac, "unknown"),
                port_security=(port.mac,) if port.port_security else (),
                enabled=None if port.enabled else False,
            )
        )
    return found


def compile_unnamed(members: Mapping[Vlan, list[Ref]], names: Names, rows: Rows) -> None:
    """A logical switch for each of these VLANs, on which there is no subnet."""
    for (switch, vlan), ports in members.items():
        why = f"VLAN {vlan} of {switch}"
        name = names.unnamed(switch, vlan)
        rows.add("Logical_Switch", name, why, ports=refs([*ports, localnet(name, (switch, vlan), why, rows)]))


def localnet(name: str, vlan: Vlan, why: str, rows: Rows) -> Ref:
    """The port of a logical switch that leads to a VLAN."""
    return rows.add(
        "Logical_Switch_Port",
        name,
        why,
        type="localnet",
        addresses=("unknown",),
        tag=vlan[1],
        options={"network_name": vlan[0]},
    )
