"""Names of VMs, answered by OVN (ovn-nb(5), DNS): one row a VPC, and one for each other subnet with a domain.

ovn-controller answers a VM's question on the VM's own host, whichever server it is for. A question for a name
that OVN knows of another kind (no IPv6 address) is answered too, with nothing, and leaves the VPC as little.
"""

from __future__ import annotations

from collections.abc import Iterable

from netctl.compile.names import Names
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref


def references(intent: Intent, subnet: str, names: Names) -> tuple[Ref, ...]:
    """The names that a subnet's VMs can ask for."""
    zone = _zone(intent, subnet)
    there = any(
        definition.domain is not None and _zone(intent, name) == zone
        for name, definition in intent.file.subnets.items()
    )
    return (Ref("DNS", names.zone(zone)),) if there else ()


def compile_dns(intent: Intent, carried: Iterable[str], names: Names, rows: Rows) -> None:
    """The names in those of these subnets that have a domain."""
    zones: dict[str, dict[str, list[str]]] = {}
    for name in carried:
        if intent.file.subnets[name].domain is not None:
            zones.setdefault(_zone(intent, name), {})
    for port in intent.ports:
        domain = intent.file.subnets[port.subnet].domain
        zone = zones.get(_zone(intent, port.subnet))
        if zone is None or domain is None:
            continue
        name = f"{port.vm}.{domain.rstrip('.').lower()}"
        for address in port.addresses:
            zone.setdefault(name, []).append(str(address))
            zone.setdefault(address.reverse_pointer, []).append(name)
    for owner, records in zones.items():
        rows.add_unnamed(
            "DNS",
            names.zone(owner),
            owner,
            records={name: " ".join(found) for name, found in sorted(records.items())},
            options={"ovn-owned": "true"},
        )


def _zone(intent: Intent, subnet: str) -> str:
    vpc = intent.file.subnets[subnet].vpc
    return f"subnet {subnet}" if vpc is None else f"vpc {vpc}"
