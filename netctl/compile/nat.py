"""NAT of a VPC: its subnets' addresses on the way out (SNAT), and floating IPs both ways (ovn-nb(5)).

A floating IP is translated on its VM's own host, which sends and answers for it under a MAC address of the
floating IP's own. A host without an uplink in the external subnet's virtual switch cannot: then the gateway
does. So it does where routers learn by BGP that the gateway is the way to the floating IP.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from netctl.compile.names import Names
from netctl.compile.routers import router_mac
from netctl.compile.rows import Rows
from netctl.model import bgp
from netctl.model.intent import Gateway, Intent
from netctl.model.state import Ref


def compile_nat(intent: Intent, vpc: str, subnets: list[str], names: Names, rows: Rows) -> list[Ref]:
    """The NAT rows of a VPC with these overlay subnets."""
    ways = [gateway for gateway in intent.gateways if gateway.vpc == vpc and gateway.snat_ip is not None]
    inside = [subnet for subnet in subnets if intent.file.subnets[subnet].cidr is not None]
    found = [_snat(intent, gateway, subnet, names, rows) for gateway in ways for subnet in inside]
    for address, target in intent.file.vpcs[vpc].floating_ips.items():
        gateway = next(way for way in ways if _covers(intent, way, address))
        found.append(_floating_ip(intent, gateway, address, target, names, rows))
    return found


def _snat(intent: Intent, gateway: Gateway, subnet: str, names: Names, rows: Rows) -> Ref:
    port = names.router_port(gateway.vpc, gateway.subnet)
    return rows.add_unnamed(
        "NAT",
        f"{port} {subnet}",
        f"vpc {gateway.vpc}",
        type="snat",
        external_ip=str(gateway.snat_ip),
        logical_ip=str(intent.file.subnets[subnet].cidr),
        gateway_port=(Ref("Logical_Router_Port", port),),
    )


def _covers(intent: Intent, gateway: Gateway, address: IPv4Address) -> bool:
    cidr = intent.file.subnets[gateway.subnet].cidr
    return cidr is not None and address in cidr


def _floating_ip(
    intent: Intent, gateway: Gateway, address: IPv4Address, target: str, names: Names, rows: Rows
) -> Ref:
    nic = intent.port(target)
    switch = intent.file.subnets[gateway.subnet].switch
    distributed = intent.reaches_fabric(nic.host, switch) and not bgp.routers(intent, gateway)
    return rows.add_unnamed(
        "NAT",
        f"{names.router(gateway.vpc)} {address}",
        f"floating ip {address}",
        type="dnat_and_snat",
        external_ip=str(address),
        logical_ip=str(nic.ip),
        external_mac=router_mac(address) if distributed else None,
        logical_port=names.nic(nic) if distributed else None,
        gateway_port=(Ref("Logical_Router_Port", names.router_port(gateway.vpc, gateway.subnet)),),
    )
