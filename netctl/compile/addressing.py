"""Address management of VLAN basic subnets: VXLAN ports of br0.local to the CVM, and what passes them.

netctl.model.addressing has the picture. DHCP of a managed subnet is between its guests and the CVM of their
own host: no request goes further, no answer of anybody else comes to a guest or from one. The server does
nothing but DHCP, and ARP for it: what else is for it ends here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from netctl.compile.bridges import add_bridge, add_port
from netctl.compile.flows import FlowSet, Pipeline
from netctl.compile.rows import Rows
from netctl.model import addressing
from netctl.model.addressing import Purpose, Served
from netctl.model.intent import Hypervisor, Intent, Port, UplinkBridge
from netctl.model.state import Ref

BRIDGE_MAC_PREFIX = "0a:63"
"""First octets of br.cvm's MAC, then the host's number; only the CVM ever sees it."""

BROADCAST = "ff:ff:ff:ff:ff:ff"

REQUEST = ("udp", "tp_src=68", "tp_dst=67")
ANSWER = ("udp", "tp_src=67", "tp_dst=68")
"""DHCP of clients and of servers (RFC 2131, 4.1)."""

ANNOUNCE = "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]"
"""Make an ARP packet one that announces its sender: of others, a kernel learns nothing."""

FORGET_MARK = "set_field:0->pkt_mark"
"""Open vSwitch asks the kernel's routes of that mark for the way of a tunnel; there are none."""

Add = Callable[..., None]
"""Adds a flow to the bridge: table, priority, match, actions."""


def add_tunnels(rows: Rows, bridge: UplinkBridge, why: str) -> list[Ref]:
    """The VXLAN ports of a virtual switch's br0.local."""
    return [
        add_port(
            rows,
            addressing.tunnel(bridge, purpose),
            why,
            type="vxlan",
            options={
                "dst_port": str(addressing.udp_port(bridge, purpose)),
                "key": "flow",
                "remote_ip": str(addressing.CVM_ADDRESS.ip),
            },
        )
        for purpose in addressing.PURPOSES
    ]


def add_tunnel_bridge(rows: Rows, flows: FlowSet, host: Hypervisor, datapath: str) -> Ref:
    """The bridge over which the VXLAN ports reach the CVM."""
    why = f"host {host.name}"
    flows.switch(addressing.BRIDGE, why)
    return add_bridge(
        rows,
        addressing.BRIDGE,
        why,
        datapath=datapath,
        mac=f"{BRIDGE_MAC_PREFIX}:00:01:{host.number >> 8:02x}:{host.number & 255:02x}",
        ports=[add_port(rows, addressing.LINK, why)],
    )


def add_flows(
    intent: Intent,
    bridge: UplinkBridge,
    subnets: Iterable[Served],
    vlans: Iterable[int],
    local: Pipeline,
    add: Add,
) -> None:
    """The flows of br0.local towards the CVM and back.

    Args:
        intent: the lab's.
        bridge: the virtual switch on this host.
        subnets: the subnets of NICs here.
        vlans: all VLANs of NICs here, also those of trunks.
        local: the tables of br0.local.
        add: adds a flow there.
    """
    dhcp = addressing.tunnel(bridge, "dhcp")
    add("admission", 200, (f"in_port={dhcp}",), local.goto("answers"))
    add("admission", 200, (f"in_port={addressing.tunnel(bridge, 'arp')}",))
    for vlan in addressing.managed(intent, bridge, vlans):
        add("addressing", 100, (*REQUEST, on(vlan)))
        add("addressing", 100, (*ANSWER, on(vlan)))
        add("return", 300, (*ANSWER, f"dl_vlan={vlan}"))
    for each in subnets:
        enabled = sorted((port for port in each.ports if port.enabled), key=lambda port: port.number)
        if not enabled:
            continue
        seen = f"clone({','.join(to_cvm(bridge, 'arp', each.vlan, ANNOUNCE))})"
        add("addressing", 80, ("arp", on(each.vlan)), seen, local.goto("learning"))
        if each.server is not None:
            _serve(each, enabled, to_cvm(bridge, "dhcp", each.vlan), add)


def _serve(each: Served, ports: list[Port], to_server: tuple[str, ...], add: Add) -> None:
    """The DHCP server of a subnet, and the NICs that it answers."""
    here, from_server = on(each.vlan), f"tun_id={each.vlan:#x}"
    why = f"subnet {each.subnet}"
    add("addressing", 110, (*REQUEST, here), *to_server, why=why)
    add("addressing", 110, ("arp", here, f"arp_tpa={each.server.ip}"), *to_server, why=why)  # type: ignore[union-attr]
    add("addressing", 90, (here, f"dl_dst={each.mac}"), why=why)
    to_all = tuple(f"output:{port.tap}" for port in ports)
    add("answers", 100, (*ANSWER, from_server, f"dl_dst={BROADCAST}"), *to_all, why=why)
    for port in ports:
        to_it = f"output:{port.tap}"
        add("answers", 100, (*ANSWER, from_server, f"dl_dst={port.mac}"), to_it, why=f"vm {port.vm}")
        add("answers", 100, ("arp", from_server, f"arp_tpa={port.ip}"), to_it, why=f"vm {port.vm}")


def to_cvm(bridge: UplinkBridge, purpose: Purpose, vlan: int, *changed: str) -> tuple[str, ...]:
    """The actions that send a frame of a VLAN to the CVM, with changes."""
    port = addressing.tunnel(bridge, purpose)
    return (FORGET_MARK, *changed, f"set_field:{vlan:#x}->tun_id", f"output:{port}")


def on(vlan: int) -> str:
    """Frames in br0.local that are on this VLAN."""
    return f"reg2={vlan:#x}/0xfff"
