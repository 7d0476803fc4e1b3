"""All databases of a lab: opened when first needed, read and written all at once, closed together.

The flows of its bridges are read and written with them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ovs.db.idl
import ovs.db.schema

from netctl.drivers import adoption, openflow, rows
from netctl.drivers.replica import (
    CONNECT_LIMIT,
    Replica,
    commit,
    connect,
    fetch_schema,
    refresh,
    refusal,
    run_until,
    scalar,
    unreachable,
)
from netctl.drivers.tables import NORTHBOUND as NORTHBOUND_KIND
from netctl.drivers.tables import OPEN_VSWITCH, SOUTHBOUND, Kind
from netctl.errors import ChangeError, ConflictError, NetctlError
from netctl.model.change import FlowChange, Plan
from netctl.model.collector import paused
from netctl.model.devices import INTEGRATION_BRIDGE
from netctl.model.flow import Flows, by_key, switching
from netctl.model.state import NORTHBOUND, Database, Endpoints, State

WRITE_LIMIT = 30.0
"""Seconds within which a database must have carried out a transaction."""

ACT_LIMIT = 30.0
"""Seconds within which ovn-northd and ovs-vswitchd must have acted on what was written."""

AGAIN = "The same command again takes up from here."

# Whoever wants the words of these libraries adds a handler; without any they would go to stderr.
logging.getLogger("ovsdbapp").addHandler(logging.NullHandler())


class Databases:
    """The databases of one owner. A context manager: leaving it ends all connections."""

    def __init__(self, endpoints: Endpoints, owner: str) -> None:
        self.endpoints = endpoints
        self.owner = owner
        self._replicas: dict[tuple[str, str], Replica] = {}
        self._schemas: dict[str, ovs.db.schema.DbSchema] = {}

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        while self._replicas:
            self._replicas.popitem()[1].close()

    # --- reading and writing ---------------------------------------------------------------------------

    @paused()
    def read(self, tolerant: bool = False, *, flows: bool = True) -> State:
        """Our rows in the northbound database and on the nodes, and our flows there, as they are now.

        A database without an address is empty; bridges that cannot be reached by OpenFlow are taken to be as
        they were made. With `tolerant` one where nobody listens is no error but `unread`. Without `flows`
        only rows are read.
        """
        wanted = [(NORTHBOUND, self.endpoints.northbound), *sorted(self.endpoints.nodes.items())]
        unread = frozenset(
            name for name, remote in wanted if tolerant and remote and refusal(remote) is not None
        )
        names = [name for name, remote in wanted if remote and name not in unread]
        known = {name for name in names if self._key(name) in self._replicas}
        replicas = dict(zip(names, self.open(names), strict=True))
        refresh(replicas[name] for name in sorted(known))
        read = {name: rows.read(replica) for name, replica in replicas.items()}
        northbound: Database = read.pop(NORTHBOUND, {})
        return State(self.owner, northbound, read, unread, self._read_flows(read) if flows else {})

    def _read_flows(self, nodes: Mapping[str, Database]) -> Mapping[str, Flows]:
        if self.endpoints.openflow is None:
            return {node: by_key(map(switching, standalone(database))) for node, database in nodes.items()}
        bridges = {node: programmed(database) for node, database in nodes.items()}
        return openflow.read(
            self.endpoints.openflow, {node: found for node, found in bridges.items() if found}, self.owner
        )

    def adopt(self, plan: Plan) -> bool:
        """Give our mark back to rows of ours that lost it. Returns whether there were any: then read again.

        Asks the databases only where the plan creates rows beside others of ours.
        """
        parts = dict(plan.by_database())
        looked = {}
        for replica, changes in zip(self.open(parts), parts.values(), strict=True):
            names = adoption.suspects(replica, changes)
            if names:
                looked[replica] = names
                for table, wanted in names.items():
                    replica.look_for(table, wanted)
        run_until(
            looked,
            lambda: not any(replica.looking for replica in looked),
            CONNECT_LIMIT,
            lambda: ChangeError(f"{next(iter(looked)).label} does not answer", AGAIN),
        )
        found = {replica: adoption.lost(replica, names) for replica, names in looked.items()}
        marks = {replica: adoption.mark(replica, lost) for replica, lost in found.items() if lost}
        failed = commit(marks, WRITE_LIMIT)
        if failed:
            raise _refusals(failed, [])
        return bool(marks)

    @paused()
    def write(self, plan: Plan) -> None:
        """Carry out a plan's changes of rows: one transaction for each database, all at the same time.

        Raises:
            ConflictError: a name is taken by somebody else's row.
            ChangeError: a database refused or was lost; says which were written.
        """
        parts = dict(plan.by_database())
        transactions: dict[Replica, Any] = {}
        try:
            for name, replica in zip(parts, self.open(parts), strict=True):
                transactions[replica] = rows.compose(replica, parts[name])
                _count(replica)
        except BaseException:
            for transaction in transactions.values():
                transaction.abort()
            raise
        failed = commit(transactions, WRITE_LIMIT)
        if failed:
            raise _refusals(failed, [replica for replica in transactions if replica not in failed])

    def write_flows(self, changes: Sequence[FlowChange]) -> None:
        """Carry out changes of flows: one bundle for each bridge. ChangeError where one is refused."""
        openflow.write(self.endpoints.openflow, changes)

    def wait_for_northd(self, limit: float = ACT_LIMIT) -> None:
        """Wait until ovn-northd has acted on all that was written to the northbound database.

        As `ovn-nbctl --wait=sb` does: sb_cfg follows nb_cfg (ovn-nb(5)).
        """
        self._wait_until_current([NORTHBOUND], "ovn-northd", limit)

    def wait_for_switches(self, names: Iterable[str], limit: float = ACT_LIMIT) -> None:
        """Wait until ovs-vswitchd on these nodes has acted on all that was written to their databases.

        As `ovs-vsctl` does: cur_cfg follows next_cfg (ovs-vswitchd.conf.db(5)).
        """
        self._wait_until_current(names, "ovs-vswitchd", limit)

    def _wait_until_current(self, names: Iterable[str], program: str, limit: float) -> None:
        replicas = self.open(names)

        def behind() -> list[Replica]:
            return [replica for replica in replicas if not _is_current(replica)]

        def failure() -> ChangeError:
            where = ", ".join(replica.label for replica in behind())
            return ChangeError(
                f"{program} did not act within {limit:g} s on what was written to {where}",
                f"See with `netctl status` whether it runs. {AGAIN}",
            )

        run_until(replicas, lambda: not behind(), limit, failure)

    def answers(self, name: str) -> bool:
        """Whether somebody listens at the northbound database or a node's."""
        remote = self.endpoints.northbound if name == NORTHBOUND else self.endpoints.nodes.get(name, "")
        return bool(remote) and refusal(remote) is None

    def southbound_answers(self) -> bool:
        """Whether somebody listens at the southbound database."""
        return bool(self.endpoints.southbound) and refusal(self.endpoints.southbound) is None

    # --- connections -----------------------------------------------------------------------------------

    def open(self, names: Iterable[str]) -> list[Replica]:
        """Replicas of the northbound database or of nodes, connected, in the order of the names."""
        wanted = []
        for name in names:
            if name == NORTHBOUND:
                wanted.append(
                    self._replica("the northbound database", self.endpoints.northbound, NORTHBOUND_KIND)
                )
            else:
                label = f"the Open_vSwitch database of {name}"
                wanted.append(self._replica(label, self.endpoints.nodes[name], OPEN_VSWITCH))
        connect(wanted)
        return wanted

    def southbound(self) -> Replica:
        """The southbound database's replica, connected."""
        replica = self._replica("the southbound database", self.endpoints.southbound, SOUTHBOUND)
        connect([replica])
        return replica

    def _key(self, name: str) -> tuple[str, str]:
        if name == NORTHBOUND:
            return (NORTHBOUND_KIND.schema, self.endpoints.northbound)
        return (OPEN_VSWITCH.schema, self.endpoints.nodes[name])

    def _replica(self, label: str, remote: str, kind: Kind) -> Replica:
        key = (kind.schema, remote)
        if key not in self._replicas:
            reason = refusal(remote)
            if reason is not None:
                raise unreachable(label, remote, reason)
            if kind.schema not in self._schemas:
                self._schemas[kind.schema] = fetch_schema(label, remote, kind)
            self._replicas[key] = Replica(label, remote, kind, self._schemas[kind.schema], self.owner)
        return self._replicas[key]


def programmed(database: Database) -> list[str]:
    """The bridges of a node's database of which we know the flows: all but OVN's own."""
    return [name for table, name in database if table == "Bridge" and name != INTEGRATION_BRIDGE]


def standalone(database: Database) -> list[str]:
    """The bridges of a node's database that forward as learning switches from the start."""
    return [
        name
        for (table, name), row in database.items()
        if table == "Bridge" and row.columns.get("fail_mode") != "secure"
    ]


_COUNTERS = {"NB_Global": ("nb_cfg", "sb_cfg"), "Open_vSwitch": ("next_cfg", "cur_cfg")}
"""By table the number of the last change that somebody must act on, and of the last one acted on."""


def _count(replica: Replica) -> None:
    """Count up, in the present transaction, so that one can wait for it to have been acted on."""
    for table, (last, _) in _COUNTERS.items():
        for row in replica.rows(table):
            row.increment(last)


def _is_current(replica: Replica) -> bool:
    """Whether ovn-northd or ovs-vswitchd has acted on all that was written."""
    return all(
        scalar(row, done) >= scalar(row, last)
        for table, (last, done) in _COUNTERS.items()
        for row in replica.rows(table)
    )


def _refusals(failed: Mapping[Replica, str], written: list[Replica]) -> NetctlError:
    """The error of transactions that databases refused."""
    taken = [
        f"{replica.label}: {details}"
        for replica, details in ((replica, _details(text)) for replica, text in failed.items())
        if "identical values" in details
    ]
    done = f" Written were: {', '.join(replica.label for replica in written)}." if written else ""
    if taken:
        return ConflictError(
            "a name is taken by a row that is not netctl's: " + "; ".join(taken),
            f"Remove that row, or give the thing another name, and run the same command again.{done}",
        )
    errors = [refused(replica, text) for replica, text in failed.items()]
    return ChangeError("; ".join(error.message for error in errors), f"{AGAIN}{done}")


def refused(replica: Replica, text: str) -> ChangeError:
    """The error of a transaction that one database refused."""
    return ChangeError(f"{replica.label} refused the change: {_details(text)}", AGAIN)


def _details(text: str) -> str:
    """The words in an OVSDB error (RFC 7047, 3.1)."""
    try:
        error = json.loads(text)
    except ValueError:
        return text
    return ": ".join(str(error[key]) for key in ("error", "details") if error.get(key))
