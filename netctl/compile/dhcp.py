"""DHCP by OVN (ovn-nb(5), DHCP_Options): one row a subnet, to which its ports refer."""

from __future__ import annotations

from ipaddress import IPv4Address

from netctl.compile.names import Names
from netctl.compile.routers import router_mac
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref
from netctl.model.subnet import Subnet

LEASE_TIME = 86400
"""Seconds of a lease where the subnet says nothing."""


def compile_dhcp(intent: Intent, name: str, names: Names, rows: Rows) -> tuple[Ref, ...]:
    """The DHCP options of a subnet, for its ports; nothing where it answers no DHCP."""
    subnet = intent.file.subnets[name]
    if not subnet.dhcp or subnet.cidr is None:
        return ()
    options = _options(subnet, intent.subnet_mtu(name))
    row = rows.add_unnamed(
        "DHCP_Options", names.switch(name), f"subnet {name}", cidr=str(subnet.cidr), options=options
    )
    return (row,)


def _options(subnet: Subnet, mtu: int) -> dict[str, str]:
    assert subnet.dhcp_address is not None
    options = {
        "lease_time": str(subnet.lease_time or LEASE_TIME),
        "mtu": str(mtu),
        "server_id": str(subnet.dhcp_address),
        "server_mac": router_mac(subnet.dhcp_address),
    }
    if subnet.router is not None:
        options["router"] = str(subnet.router)
    if subnet.resolvers:
        options["dns_server"] = _addresses(subnet.resolvers)
    if subnet.domain is not None:
        options["domain_name"] = f'"{subnet.domain}"'
    return options


def _addresses(several: list[IPv4Address]) -> str:
    return str(several[0]) if len(several) == 1 else "{" + ", ".join(map(str, several)) + "}"
