"""Make the databases what the intent compiles to: read, plan, write, wait, read again.

    with Databases(endpoints, desired.owner) as databases:
        converge(desired, databases)        # the rack then starts what needs the configuration
        wait_ready(intent, databases, 60)
        verify(desired, databases)

Every function takes `Databases`, to keep connections from one call to the next, or bare `Endpoints`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from netctl.compile import Names
from netctl.compile.subnets import OVN_TYPES
from netctl.compile.trunks import tagged
from netctl.drivers import (
    Databases,
    Expected,
    gateway_nodes,
    hear_from_all,
    remove_stale_chassis,
    unready_ports,
    wait_for_failover,
    wait_for_neighbours,
    wait_until_ready,
)
from netctl.errors import ChangeError
from netctl.model import basic
from netctl.model.change import Plan, by_bridge
from netctl.model.functions import detours
from netctl.model.intent import Intent
from netctl.model.state import NORTHBOUND, Endpoints, State
from netctl.plan import halfway, plan, without

Where = Databases | Endpoints


def preview(desired: State, where: Where) -> Plan:
    """What `converge` would change. Databases that are not there yet are empty, dead ones are left out."""
    with _opened(where, desired.owner) as databases:
        return plan(desired, databases.read(tolerant=True))


def converge(desired: State, where: Where) -> Plan:
    """Write what differs, and wait until the switches have acted on it. Returns what was changed.

    Flows go last: they name ports, so the switches must have made those first.
    """
    with _opened(where, desired.owner) as databases:
        changes = write(desired, databases)
        databases.wait_for_switches(desired.nodes)
        flows = plan(desired, databases.read()).flows
        databases.write_flows(flows)
        return replace(changes, flows=flows)


def configure_switches(desired: State, where: Where) -> None:
    """As `converge`, but only Open vSwitch of hosts and switches; the northbound database stays as it is.

    For controllers that start now: with the logical network written when they run, each works out its flows
    once, and not anew with every host that joins.
    """
    with _opened(where, desired.owner) as databases:
        there = databases.read().northbound
        converge(replace(desired, northbound=there), databases)


def write(desired: State, databases: Databases) -> Plan:
    """Write the rows that differ: a transaction for each database, or two where northd could not stand one.

    Returns what was changed.
    """
    desired = replace(desired, flows={})
    observed = databases.read(flows=False)
    changes = plan(desired, observed)
    if databases.adopt(changes):
        observed = databases.read(flows=False)
        changes = plan(desired, observed)
    first = halfway(desired, observed)
    if observed.northbound and any(change.database == NORTHBOUND for change in changes.changes):
        databases.wait_for_northd()
    if first is not None:
        databases.write(plan(first, observed))
        databases.wait_for_northd()
        observed = databases.read(flows=False)
    databases.write(plan(desired, observed))
    return changes


def withdraw(desired: State, where: Where, interfaces: Mapping[str, Iterable[str]]) -> None:
    """Take interfaces out of their switches, by node; `converge` then puts them in anew.

    For devices that were made again under a running switch, see netctl.plan.withdraw.
    """
    if interfaces:
        with _opened(where, desired.owner) as databases:
            write(without(desired, interfaces), databases)
            databases.wait_for_switches(desired.nodes)


def wait_ready(
    intent: Intent,
    where: Where,
    limit: float,
    *,
    prefix: str = "",
    silent: Collection[str] = (),
    whole: bool = True,
) -> None:
    """Wait until every enabled NIC is bound on its host and every host has all flows installed.

    And until every VPC's gateway is where the intent prefers it, unless the fabric is not `whole`.
    ChangeError after `limit` seconds, with what is missing. Also removes what hosts that are gone left behind
    in OVN. Nothing is expected of the nodes that are `silent`.
    """
    names = Names(prefix)
    expected = _expected(intent, names, silent)
    if whole and not silent:
        expected = replace(expected, gateways=_gateways(intent, names))
    with _opened(where, intent.name) as databases:
        remove_stale_chassis(databases, [names.chassis(host) for host in intent.hosts])
        wait_until_ready(databases, expected, limit)
        hear_from_all(databases, expected, limit)
        wait_for_failover(databases, expected, limit)


def wait_neighbours(intent: Intent, where: Where, limit: float, *, prefix: str = "") -> None:
    """Wait until VPCs know the bare machines on their external networks, but no longer than `limit` seconds.

    Somebody must have made those speak.
    """
    names = Names(prefix)
    neighbours = {
        (names.router_port(way.vpc, way.subnet), str(machine.definition.ip.ip))
        for machine in intent.machines.values()
        if machine.definition.ip is not None
        for way in intent.gateways_beside(machine.definition)
    }
    if neighbours:
        with _opened(where, intent.name) as databases:
            wait_for_neighbours(databases, neighbours, limit)
            hear_from_all(databases, _expected(intent, names), limit)


def unbound(
    intent: Intent, where: Where, *, prefix: str = "", silent: Collection[str] = ()
) -> dict[str, str]:
    """Which enabled NICs are not bound or lack flows, by vm/index, each with the reason. Waits for nothing.

    Databases that do not answer count as if they were empty. NICs of `silent` hosts are left out.
    """
    expected = _expected(intent, Names(prefix), silent)
    with _opened(where, intent.name) as databases:
        missing = unready_ports(databases, expected)
    names = Names(prefix)
    found = {port.name: missing[names.nic(port)] for port in intent.ports if names.nic(port) in missing}
    for port, (_, vlan) in tagged(intent, OVN_TYPES):
        if names.trunked(port, vlan) in missing:
            found.setdefault(port.name, missing[names.trunked(port, vlan)])
    return found


def misprogrammed(desired: State, where: Where) -> dict[str, str]:
    """The nodes whose flows are not as desired, each with what is wrong; a bridge that is silent has none."""
    with _opened(where, desired.owner) as databases:
        changes = plan(desired, databases.read(tolerant=True)).flows
    wrong: dict[str, list[str]] = {}
    for (node, bridge), found in by_bridge(changes):
        wrong.setdefault(node, []).append(f"{len(found)} of {bridge}")
    return {
        node: f"{node}: flows are not as they must be: {', '.join(there)}" for node, there in wrong.items()
    }


def gateways(intent: Intent, where: Where, *, prefix: str = "") -> dict[str, str | None]:
    """The host that is the gateway of each VPC's way out now, by vpc/subnet; None where nobody is."""
    names = Names(prefix)
    expected = replace(_expected(intent, names), gateways=_gateways(intent, names))
    with _opened(where, intent.name) as databases:
        nodes = gateway_nodes(databases, expected) if databases.southbound_answers() else {}
    return {
        f"{way.vpc}/{way.subnet}": nodes.get(names.router_port(way.vpc, way.subnet))
        for way in intent.gateways
    }


def verify(desired: State, where: Where) -> None:
    """ChangeError with the difference when the databases are not as desired."""
    with _opened(where, desired.owner) as databases:
        left = plan(desired, databases.read())
    if left:
        raise ChangeError(
            f"the configuration is not what was written; left to change ({len(left)}):\n{left}",
            "Somebody else may be changing it; the same command again takes up from here.",
        )


def _expected(intent: Intent, names: Names, silent: Collection[str] = ()) -> Expected:
    chassis = {names.chassis(host): host for host in intent.hosts if host not in silent}
    ports: dict[str, tuple[str, str | None]] = {}
    taps: dict[str, tuple[str, str]] = {}
    for port in intent.ports:
        if port.enabled and port.host not in silent:
            if intent.file.subnets[port.subnet].type not in OVN_TYPES:
                taps[names.nic(port)] = port.host, port.tap
            else:
                device = basic.down(port.tap) if detours(intent, port) else port.tap
                ports[names.nic(port)] = port.host, None if port.mode == "trunk" else device
    for port, (_, vlan) in tagged(intent, OVN_TYPES):
        if names.nic(port) in ports:
            ports[names.trunked(port, vlan)] = port.host, None
    nodes = [node for node in (*intent.hosts, *intent.switches) if node not in silent]
    return Expected(chassis, ports, nodes, taps=taps)


def _gateways(intent: Intent, names: Names) -> dict[str, str]:
    return {names.router_port(way.vpc, way.subnet): way.hosts[0] for way in intent.gateways if way.hosts}


@contextmanager
def _opened(where: Where, owner: str) -> Iterator[Databases]:
    if isinstance(where, Databases):
        yield where
    else:
        with Databases(where, owner) as databases:
            yield databases
