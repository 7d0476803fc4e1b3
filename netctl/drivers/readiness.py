"""Waiting until OVN and OVS have done what was written: chassis registered, ports bound, flows in.

Every wait is driven by the databases' own updates; there is no polling and no sleeping.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import ovs.db.idl

from netctl.drivers.databases import WRITE_LIMIT, Databases, refused
from netctl.drivers.replica import Replica, commit, refresh, run_until, scalar, values
from netctl.errors import ChangeError
from netctl.model.state import NORTHBOUND, OWNER_KEY


@dataclass(frozen=True)
class Expected:
    """What must be there. `chassis` maps a chassis to its node, `ports` a logical port to its node and tap.

    Ports that share a tap have None for it: ovn-controller takes from the tap the mark that flows are in when
    one goes, and does not put it back. `taps` maps a NIC that OVN knows nothing of to its node and tap,
    which Open vSwitch must have opened. `nodes` are all nodes whose interfaces must be in order, hosts and
    switches. `gateways` maps a router's port to the node that must be its gateway.
    """

    chassis: Mapping[str, str]
    ports: Mapping[str, tuple[str, str | None]]
    nodes: Collection[str] = field(default_factory=tuple)
    gateways: Mapping[str, str] = field(default_factory=dict)
    taps: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def wait_until_ready(databases: Databases, expected: Expected, limit: float) -> None:
    """Wait until every chassis is registered and every port bound, with all of its flows installed."""
    northbound, *nodes = databases.open([NORTHBOUND, *expected.nodes])
    by_node = dict(zip(expected.nodes, nodes, strict=True))
    southbound = databases.southbound()

    def missing() -> list[str]:
        return (
            _chassis_missing(southbound, expected.chassis)
            or _interface_errors(by_node)
            or list(_taps_missing(by_node, expected.taps).values())
            or list(_ports_missing(northbound, southbound, by_node, expected).values())
            or _gateways_missing(southbound, expected)
        )

    run_until(
        [northbound, southbound, *nodes], lambda: not missing(), limit, lambda: _not_ready(missing(), limit)
    )


def unready_ports(databases: Databases, expected: Expected) -> dict[str, str]:
    """The expected ports that are not bound or lack flows, each with the reason, as the databases say now."""
    there = [node for node in expected.nodes if databases.answers(node)]
    by_node = dict(zip(there, databases.open(there), strict=True))
    missing = _taps_missing(by_node, expected.taps)
    if not databases.answers(NORTHBOUND) or not databases.southbound_answers():
        return {**missing, **dict.fromkeys(expected.ports, "OVN's databases do not answer")}
    (northbound,) = databases.open([NORTHBOUND])
    return {**missing, **_ports_missing(northbound, databases.southbound(), by_node, expected)}


def hear_from_all(databases: Databases, expected: Expected, limit: float) -> None:
    """Wait until every chassis has answered a new question, so has installed the flows of all before it.

    NB_Global.nb_cfg goes through northd to each ovn-controller, which answers in Chassis_Private.nb_cfg when
    its flows are in (ovn-nb(5), ovn-sb(5)). One that does not run is noticed here.
    """
    (northbound,) = databases.open([NORTHBOUND])
    southbound = databases.southbound()
    deadline = time.monotonic() + limit
    asked = _ask(northbound)

    def silent() -> list[str]:
        heard = {scalar(row, "name"): scalar(row, "nb_cfg", 0) for row in southbound.rows("Chassis_Private")}
        return [
            f"ovn-controller of {node} has not answered"
            for chassis, node in expected.chassis.items()
            if heard.get(chassis, -1) < asked
        ]

    def done() -> bool:
        return not silent() and _northd_answered(northbound, asked)

    def failure() -> ChangeError:
        return _not_ready(silent() or ["ovn-northd has not answered"], limit)

    run_until([northbound, southbound], done, max(0.0, deadline - time.monotonic()), failure)


def wait_for_failover(databases: Databases, expected: Expected, limit: float) -> None:
    """Wait until the hosts have found each other alive wherever OVN watches that: BFD over the tunnels.

    Until then a host may take the gateway for dead, and send to another. To be called when all chassis have
    been heard of: then each has begun to watch those that it must.
    """
    if not expected.gateways:
        return
    names = list(expected.chassis.values())
    by_node = dict(zip(names, databases.open(names), strict=True))
    southbound = databases.southbound()

    def missing() -> list[str]:
        return _unwatched(by_node, _addresses(southbound, expected)) or _gateways_missing(
            southbound, expected
        )

    run_until(
        [southbound, *by_node.values()], lambda: not missing(), limit, lambda: _not_ready(missing(), limit)
    )


def _addresses(southbound: Replica, expected: Expected) -> dict[str, str]:
    """The nodes by the addresses that their tunnels end at."""
    ends = {row.uuid: scalar(row, "ip") for row in southbound.rows("Encap")}
    return {
        ends[end]: expected.chassis[name]
        for row in southbound.rows("Chassis")
        if (name := scalar(row, "name")) in expected.chassis
        for end in values(row, "encaps")
        if end in ends
    }


def _unwatched(by_node: Mapping[str, Replica], alive: Mapping[str, str]) -> list[str]:
    """Tunnels to living hosts that OVN watches by BFD and that are not up (ovs-vswitchd.conf.db(5))."""
    found = []
    for node, replica in by_node.items():
        for row in replica.rows("Interface"):
            peer = alive.get(values(row, "options").get("remote_ip", ""))
            state = values(row, "bfd_status").get("state", "not begun")
            if peer and state != "up" and values(row, "bfd").get("enable") == "true":
                found.append(f"{node} has not found {peer} alive (BFD: {state})")
    return found


def gateway_nodes(databases: Databases, expected: Expected) -> dict[str, str | None]:
    """The node that is the gateway of each router port of `expected` now; None where nobody is."""
    where = _gateway_nodes(databases.southbound(), expected)
    return {port: where.get(f"cr-{port}") for port in expected.gateways}


def _gateways_missing(southbound: Replica, expected: Expected) -> list[str]:
    where = _gateway_nodes(southbound, expected)
    return [
        f"{node} is not the gateway of {port}" + (f", but {there}" if there else "")
        for port, node in expected.gateways.items()
        if (there := where.get(f"cr-{port}")) != node
    ]


def _gateway_nodes(southbound: Replica, expected: Expected) -> dict[str, str | None]:
    chassis = {row.uuid: scalar(row, "name") for row in southbound.rows("Chassis")}
    return {
        scalar(row, "logical_port"): expected.chassis.get(
            chassis.get(next(iter(values(row, "chassis")), None), "")
        )
        for row in southbound.rows("Port_Binding")
        if scalar(row, "type") == "chassisredirect"
    }


def wait_for_neighbours(databases: Databases, neighbours: Collection[tuple[str, str]], limit: float) -> None:
    """Wait until routers know the MAC addresses of these neighbours, as (router port, address).

    No error after `limit` seconds: whoever is silent may be so on purpose.
    """
    southbound = databases.southbound()

    def unknown() -> set[tuple[str, str]]:
        known = {(scalar(row, "logical_port"), scalar(row, "ip")) for row in southbound.rows("MAC_Binding")}
        return set(neighbours) - known

    with contextlib.suppress(ChangeError):
        run_until([southbound], lambda: not unknown(), limit, lambda: ChangeError("silent neighbours"))


def remove_stale_chassis(databases: Databases, chassis: Collection[str]) -> list[str]:
    """Remove from the southbound database our chassis other than these; returns their names.

    ovn-controller removes its own chassis when it ends well; one that was killed leaves it behind.
    """
    southbound = databases.southbound()
    mark = f"{OWNER_KEY}={databases.owner}"
    stale = {
        scalar(row, "name")
        for row in southbound.rows("Chassis")
        if mark in values(row, "other_config").get("ovn-cms-options", "").split(",")
    } - set(chassis)
    if stale:
        transaction = ovs.db.idl.Transaction(southbound.idl)
        for table in ("Chassis", "Chassis_Private"):
            for row in list(southbound.rows(table)):
                if scalar(row, "name") in stale:
                    row.delete()
        failed = commit({southbound: transaction}, WRITE_LIMIT)
        if failed:
            raise refused(southbound, failed[southbound])
    return sorted(stale)


def _ask(northbound: Replica) -> int:
    """Count nb_cfg up; returns the new value."""
    while True:
        transaction = ovs.db.idl.Transaction(northbound.idl)
        rows = list(northbound.rows("NB_Global"))
        if rows:
            row, asked = rows[0], int(scalar(rows[0], "nb_cfg")) + 1
            row.verify("nb_cfg")
        else:
            row, asked = transaction.insert(northbound.idl.tables["NB_Global"]), 1
        row.nb_cfg = asked
        failed = commit({northbound: transaction}, WRITE_LIMIT)
        if not failed:
            return asked
        if failed[northbound] != transaction.TRY_AGAIN:
            raise refused(northbound, failed[northbound])
        refresh([northbound])  # somebody else counted it up at the same time


def _northd_answered(northbound: Replica, asked: int) -> bool:
    return all(scalar(row, "sb_cfg", 0) >= asked for row in northbound.rows("NB_Global"))


def _chassis_missing(southbound: Replica, chassis: Mapping[str, str]) -> list[str]:
    there = {scalar(row, "name") for row in southbound.rows("Chassis") if values(row, "encaps")}
    return [
        f"host {node} is not registered in OVN (its ovn-controller has not been heard of)"
        for name, node in chassis.items()
        if name not in there
    ]


def _interface_errors(by_node: Mapping[str, Replica]) -> list[str]:
    return [
        f"{node}: {scalar(row, 'error')}"
        for node, replica in by_node.items()
        for row in replica.rows("Interface")
        if scalar(row, "error")
    ]


def _taps_missing(by_node: Mapping[str, Replica], taps: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    opened = {
        (node, scalar(row, "name"))
        for node, replica in by_node.items()
        for row in replica.rows("Interface")
        if scalar(row, "ofport", -1) > 0
    }
    return {
        nic: f"{nic}: {tap} of {node} is not in its bridge"
        for nic, (node, tap) in taps.items()
        if (node, tap) not in opened
    }


def _ports_missing(
    northbound: Replica,
    southbound: Replica,
    by_node: Mapping[str, Replica],
    expected: Expected,
) -> dict[str, str]:
    installed = {
        (node, scalar(row, "name"))
        for node, replica in by_node.items()
        for row in replica.rows("Interface")
        if values(row, "external_ids").get("ovn-installed") == "true"
    }
    bound = {
        scalar(row, "logical_port"): next(iter(values(row, "chassis")), None)
        for row in southbound.rows("Port_Binding")
        if scalar(row, "up") is True
    }
    chassis = {row.uuid: scalar(row, "name") for row in southbound.rows("Chassis")}
    node_of = expected.chassis
    up = {scalar(row, "name") for row in northbound.rows("Logical_Switch_Port") if scalar(row, "up") is True}
    missing = {}
    for port, (node, tap) in expected.ports.items():
        where = node_of.get(chassis.get(bound.get(port), ""), None)
        if where != node:
            missing[port] = f"{port} is not bound on {node}" + (f" but on {where}" if where else "")
        elif tap is not None and (node, tap) not in installed:
            missing[port] = f"{port}: the flows of {tap} on {node} are not installed"
        elif port not in up:
            missing[port] = f"{port} is not up in the northbound database"
    return missing


def _not_ready(missing: list[str], limit: float) -> ChangeError:
    shown = "; ".join(missing[:5]) + (f"; and {len(missing) - 5} more" if len(missing) > 5 else "")
    return ChangeError(
        f"not ready after {limit:g} s: {shown}",
        "`netctl status` shows what runs; the same command again takes up from here.",
    )
