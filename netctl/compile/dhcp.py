"""DHCP by OVN (ovn-nb(5), DHCP_Options): one row a subnet, to which its ports refer.

OVN itself answers, so whoever else does is nobody's server: what the subnet's NICs send as one is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from netctl.compile.names import Names
from netctl.compile.routers import router_mac
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref
from netctl.model.subnet import LEASE_TIME, Subnet


def compile_dhcp(intent: Intent, name: str, names: Names, rows: Rows) -> tuple[Ref, ...]:
    """The DHCP options of a subnet, for its ports; nothing where it answers no DHCP."""
    subnet = intent.file.subnets[name]
    if not subnet.answers_dhcp or subnet.cidr is None:
        return ()
    options = _options(subnet, intent.subnet_mtu(name))
    row = rows.add_unnamed(
        "DHCP_Options", names.switch(name), f"subnet {name}", cidr=str(subnet.cidr), options=options
    )
    return (row,)


ABOVE_POLICIES = 32500
"""The priority of the ACL against other servers: nothing that policies allow comes before it."""


def forbid_servers(name: str, members: Iterable[Ref], names: Names, rows: Rows) -> None:
    """Drop what these ports of a subnet send as DHCP servers (RFC 2131, 4.1)."""
    ports = tuple(sorted(members, key=lambda ref: ref.name))
    if not ports:
        return
    words, why = f"DHCP servers in {name}", f"subnet {name}"
    group = names.identifier(words)
    acl = rows.add_unnamed(
        "ACL",
        f"{names.prefix}{words}",
        why,
        direction="from-lport",
        priority=ABOVE_POLICIES,
        match=f"inport == @{group} && udp.src == 67 && udp.dst == 68",
        action="drop",
    )
    rows.add("Port_Group", group, why, ports=ports, acls=(acl,))


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
