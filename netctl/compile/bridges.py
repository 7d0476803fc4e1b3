"""Bridges, ports and interfaces of Open vSwitch (ovs-vswitchd.conf.db(5)): what hosts and switches share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netctl.compile.names import Names
from netctl.compile.rows import Rows, refs
from netctl.model.intent import Port
from netctl.model.state import Ref

VLAN_LIMIT = "0"
"""`vlan-limit`: parse as many VLAN tags as OVS can (two). The default is one.

ovn-controller sets it on hosts. An MLAG pair needs it for the frame's own tag behind the peer link's. It has
to be there from the beginning: ovs-vswitchd asks its datapath only once how many it can do.
"""


def add_bridge(
    rows: Rows,
    name: str,
    why: str,
    *,
    datapath: str,
    mac: str,
    ports: Iterable[Ref],
    mtu: int | None = None,
    other_config: Mapping[str, str] | None = None,
    fail_mode: str | None = None,
    rstp_enable: bool | None = None,
) -> Ref:
    """A bridge with its own internal port.

    Without `hwaddr` a bridge takes the lowest MAC of its ports, so it would change with them.
    """
    local = add_port(rows, name, why, type="internal", mtu_request=mtu)
    return rows.add(
        "Bridge",
        name,
        why,
        datapath_type=datapath,
        other_config={"hwaddr": mac, **(other_config or {})},
        ports=refs([local, *ports]),
        fail_mode=fail_mode,
        rstp_enable=rstp_enable,
    )


def add_port(
    rows: Rows,
    name: str,
    why: str,
    *,
    tag: int | None = None,
    lacp: str | None = None,
    limited: bool = False,
    port_config: Mapping[str, str] | None = None,
    device_config: Mapping[str, str] | None = None,
    external_ids: Mapping[str, str] | None = None,
    type: str | None = None,
    options: Mapping[str, str] | None = None,
    mtu_request: int | None = None,
) -> Ref:
    """A port over the one device of the same name; `external_ids`, `options` and `device_config` are its.

    `limited`: somebody else limits the rate of its device (see `leave_rates_alone`).
    """
    device = rows.add(
        "Interface",
        name,
        why,
        external_ids=external_ids,
        other_config=device_config,
        type=type,
        options=options,
        mtu_request=mtu_request,
    )
    return rows.add(
        "Port",
        name,
        why,
        interfaces=(device,),
        tag=tag,
        lacp=lacp,
        qos=leave_rates_alone(rows, name, why) if limited else None,
        other_config=port_config,
    )


def add_tap(rows: Rows, port: Port, names: Names) -> Ref:
    """The tap of a NIC; `iface-id` is how ovn-controller knows which logical port it is, if it is one."""
    return add_port(
        rows,
        port.tap,
        f"vm {port.vm}",
        external_ids=nic_ids(port, names),
        limited=port.rate is not None,
    )


def nic_ids(port: Port, names: Names) -> dict[str, str]:
    """What an interface says of the NIC that it stands for."""
    return {
        "attached-mac": port.mac,
        "iface-id": names.nic(port),
        "iface-status": "active",
        "vm-id": port.vm,
    }


def add_patch(
    rows: Rows,
    name: str,
    peer: str,
    why: str,
    *,
    trunks: tuple[int, ...] = (),
    external_ids: Mapping[str, str] | None = None,
) -> Ref:
    """One end of a patch to another bridge, whose port is `peer`. Without `trunks` it carries every VLAN."""
    device = rows.add("Interface", name, why, type="patch", options={"peer": peer}, external_ids=external_ids)
    return rows.add("Port", name, why, interfaces=(device,), trunks=trunks)


def leave_rates_alone(rows: Rows, port: str, why: str) -> tuple[Ref, ...]:
    """The QoS of a port whose devices have limits that are not OVS's: it would take them away when it starts.

    OVS cannot limit what its userspace datapath sends.
    """
    return (rows.add_unnamed("QoS", port, why, type="linux-noop"),)
