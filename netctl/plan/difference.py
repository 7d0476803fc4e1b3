"""The difference of two states as a plan, and a plan carried out on a state."""

from __future__ import annotations

from netctl.model.change import Change, FlowChange, Plan
from netctl.model.collector import paused
from netctl.model.flow import NOBODYS, Flows
from netctl.model.state import NORTHBOUND, Database, Row, State


@paused()
def plan(desired: State, observed: State) -> Plan:
    """What turns `observed` into `desired`: rows by database, table and name, then flows by node and key.

    A database that could not be read is left alone, and so are the flows of its node.
    """
    changes: list[Change] = []
    before = dict(observed.databases())
    after = dict(desired.databases())
    for name in sorted({*before, *after}, key=lambda database: (database != NORTHBOUND, database)):
        if name in observed.unread:
            continue
        changes += _of_database(name, after.get(name, {}), before.get(name, {}))
    flows: list[FlowChange] = []
    for node in sorted({*desired.flows, *observed.flows} - observed.unread):
        wanted = _of_bridges(desired.flows.get(node, {}), observed.nodes.get(node, {}))
        found = _of_bridges(observed.flows.get(node, {}), desired.nodes.get(node, {}))
        flows += _of_flows(node, wanted, found)
    return Plan(desired.owner, tuple(changes), tuple(flows))


def apply(plan: Plan, state: State) -> State:
    """The state after a plan was carried out on it."""
    databases = {name: dict(database) for name, database in state.databases()}
    for change in plan.changes:
        database = databases.setdefault(change.database, {})
        key = (change.table, change.name)
        if change.action == "delete":
            del database[key]
            continue
        columns = dict(database[key].columns) if change.action == "update" else {}
        for column, (_, new) in change.columns.items():
            if new is None:
                columns.pop(column, None)
            else:
                columns[column] = new
        database[key] = Row(change.table, change.name, columns, change.why)
    northbound = databases.pop(NORTHBOUND)
    flows = {node: dict(found) for node, found in state.flows.items()}
    for one in plan.flows:
        there = flows.setdefault(one.node, {})
        if one.new is None:
            del there[one.flow.key]
        else:
            there[one.flow.key] = one.new
    return State(state.owner, northbound, databases, flows=flows)


def _of_database(name: str, desired: Database, observed: Database) -> list[Change]:
    changes = []
    for key in sorted({*desired, *observed}):
        want, have = desired.get(key), observed.get(key)
        if want is None and have is not None:
            old = {column: (value, None) for column, value in have.columns.items()}
            changes.append(Change(name, "delete", *key, old, have.why))
        elif want is not None and have is None:
            new = {column: (None, value) for column, value in want.columns.items()}
            changes.append(Change(name, "create", *key, new, want.why))
        elif want is not None and have is not None and want.columns != have.columns:
            both = {
                column: (have.columns.get(column), want.columns.get(column))
                for column in sorted({*want.columns, *have.columns})
                if have.columns.get(column) != want.columns.get(column)
            }
            changes.append(Change(name, "update", *key, both, want.why))
    return changes


def _of_bridges(flows: Flows, there: Database) -> Flows:
    """Less the flows that come and go with a bridge that is not there."""
    return {
        key: flow for key, flow in flows.items() if flow.cookie != NOBODYS or ("Bridge", flow.bridge) in there
    }


def _of_flows(node: str, desired: Flows, observed: Flows) -> list[FlowChange]:
    return [
        FlowChange(node, observed.get(key), desired.get(key))
        for key in sorted({*desired, *observed})
        if desired.get(key) != observed.get(key)
    ]
