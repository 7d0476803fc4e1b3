"""Ways out of a VPC: the router's port in an external subnet, on one gateway host at a time (ovn-nb(5)).

The group of gateway hosts is an HA_Chassis_Group: the first that is alive, told by BFD over the tunnels, is
the gateway, announces the VPC's addresses (gratuitous ARP) and does its NAT.
"""

from __future__ import annotations

from netctl.compile.names import Names
from netctl.compile.routers import router_mac
from netctl.compile.rows import Rows, refs
from netctl.model import bgp
from netctl.model.intent import Gateway, Intent
from netctl.model.state import Ref

HIGHEST = 32767
"""The priority of the first gateway host."""

BFD = {"bfd-min-rx": "200", "bfd-min-tx": "200", "bfd-mult": "5"}
"""Milliseconds between BFD packets, and how many may be missing: a dead gateway is noticed within a second.

Open vSwitch's own 1000 ms would take 3 s; much less would take a busy machine for a dead host.
"""


def compile_failover(intent: Intent, rows: Rows) -> None:
    """How fast gateways notice that one of them has died; of the whole OVN, as OVN knows it no finer."""
    if any(len(gateway.hosts) > 1 for gateway in intent.gateways):
        rows.add_shared("NB_Global", ".", "gateway hosts", options=BFD)


def switch_ports(intent: Intent, subnet: str, names: Names, rows: Rows) -> list[Ref]:
    """The ports of an external subnet's switch towards the routers of its VPCs."""
    return [
        rows.add(
            "Logical_Switch_Port",
            names.to_router(subnet, gateway.vpc),
            f"vpc {gateway.vpc}",
            type="router",
            addresses=("router",),
            # Announce the router's, NAT's and load balancers' addresses where they are.
            options={"nat-addresses": "router", "router-port": names.router_port(gateway.vpc, subnet)},
        )
        for gateway in intent.gateways
        if gateway.subnet == subnet
    ]


def router_port(intent: Intent, gateway: Gateway, widest: int, names: Names, rows: Rows) -> Ref:
    """The router's port in the external subnet. `widest` is the largest MTU that the VPC has anywhere."""
    cidr = intent.file.subnets[gateway.subnet].cidr
    assert cidr is not None
    why = f"vpc {gateway.vpc}"
    name = names.router_port(gateway.vpc, gateway.subnet)
    hosts = [
        rows.add_unnamed(
            "HA_Chassis",
            f"{name} {host}",
            why,
            chassis_name=names.chassis(host),
            priority=HIGHEST - position,
        )
        for position, host in enumerate(gateway.hosts)
    ]
    group = rows.add("HA_Chassis_Group", name, why, ha_chassis=refs(hosts))
    mtu = intent.subnet_mtu(gateway.subnet)
    return rows.add(
        "Logical_Router_Port",
        name,
        why,
        mac=router_mac(gateway.router_ip),
        networks=(f"{gateway.router_ip}/{cidr.prefixlen}",),
        ha_chassis_group=(group,),
        external_ids=_announced(intent, gateway, names),
        options={"gateway_mtu": str(mtu)} if mtu < widest else {},
    )


def _announced(intent: Intent, gateway: Gateway, names: Names) -> dict[str, str]:
    """What the speakers of a way out announce, and to whom: they read it here (dataplane/bgp_feed.py).

    `PREFIX`, or `PREFIX=PORT` for what is there only while that port is up.
    """
    peers = bgp.routers(intent, gateway)
    if not peers:
        return {}
    found = [
        f"{one.prefix}={names.nic(one.nic)}" if one.nic else str(one.prefix)
        for one in bgp.announced(intent, gateway)
    ]
    addresses = [str(peer.definition.ip.ip) for peer in peers if peer.definition.ip]
    return {"bgp-announce": " ".join(found), "bgp-peers": " ".join(addresses)}
