"""How many packets each rule of a policy, or each routing policy, has had: from its flows on all hosts.

A flow counts from when it was put in; ovn-controller and netctl put in anew what they change. On subnets that
OVN carries a rule is an ACL, its flows are found by the cookies of the logical flows that northd made of it
(ovn-sb(5), Logical_Flow: `stage-hint` begins the ACL's UUID, a flow's cookie the logical flow's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import UUID

from netctl.drivers import openflow
from netctl.drivers.databases import Databases
from netctl.drivers.replica import Replica, connect, fetch_schema, values
from netctl.drivers.tables import Kind, Table
from netctl.model import basic
from netctl.model.devices import INTEGRATION_BRIDGE
from netctl.model.flow import owner_cookie
from netctl.model.state import NAME_KEY, NORTHBOUND, WHY_KEY

LOGICAL_FLOWS = Kind("OVN_Southbound", {"Logical_Flow": Table(watch=("external_ids",), key=None)})

DIGITS = 8
"""Digits of a UUID by which OVN tells its logical flows apart in OpenFlow."""


def of_acls(databases: Databases, hosts: Iterable[str]) -> dict[str, int]:
    """Packets by what ACLs are for (`netctl-for`), on all of these hosts together."""
    return _of_rows(databases, hosts, "ACL", WHY_KEY)


def of_routing_policies(databases: Databases, hosts: Iterable[str]) -> dict[str, int]:
    """Packets by the names of routing policies (`netctl-name`), on all of these hosts together."""
    return _of_rows(databases, hosts, "Logical_Router_Policy", NAME_KEY)


def _of_rows(databases: Databases, hosts: Iterable[str], table: str, key: str) -> dict[str, int]:
    """Packets by what the rows of a northbound table have under a key in external_ids."""
    (northbound,) = databases.open([NORTHBOUND])
    names = {
        row.uuid.hex[:DIGITS]: values(row, "external_ids").get(key, "") for row in northbound.rows(table)
    }
    if not names:
        return {}
    cookies = {
        int(uuid.hex[:DIGITS], 16): names[hint] for uuid, hint in _logical_flows(databases) if hint in names
    }
    found = dict.fromkeys(names.values(), 0)
    for cookie, packets in _packets(databases, hosts, INTEGRATION_BRIDGE).items():
        if cookie in cookies:
            found[cookies[cookie]] += packets
    return found


def _logical_flows(databases: Databases) -> list[tuple[UUID, str]]:
    """The UUID of each logical flow, and the beginning of that of the row that northd made it of."""
    label, remote = "the southbound database", databases.endpoints.southbound
    replica = Replica(
        label, remote, LOGICAL_FLOWS, fetch_schema(label, remote, LOGICAL_FLOWS), databases.owner
    )
    try:
        connect([replica])
        return [
            (row.uuid, values(row, "external_ids").get("stage-hint", ""))
            for row in replica.rows("Logical_Flow")
        ]
    finally:
        replica.close()


def of_flows(databases: Databases, hosts: Iterable[str], whose: Mapping[int, str]) -> dict[str, int]:
    """Packets by what flows of br.microseg are for: `whose` by their cookie."""
    found = dict.fromkeys(whose.values(), 0)
    mark = owner_cookie(databases.owner)
    for cookie, packets in _packets(databases, hosts, basic.MICROSEG, mark).items():
        if cookie in whose:
            found[whose[cookie]] += packets
    return found


def _packets(
    databases: Databases, hosts: Iterable[str], bridge: str, mark: int | None = None
) -> Counter[int]:
    """Packets by cookie on a bridge of several hosts; of flows with a mark, or all."""
    target = databases.endpoints.openflow
    found: Counter[int] = Counter()
    if target is not None:
        for cookie, packets in openflow.counts(target, [(host, bridge) for host in hosts], mark):
            found[cookie] += packets
    return found
