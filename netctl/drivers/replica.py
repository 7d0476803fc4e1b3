"""One database as ovsdbapp replicates it, without a thread: whoever waits runs those that it waits for.

The replicas of one process share their schemas, hold only the tables and columns that tables.py names, and of
tables with our mark only the rows of one owner.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import ovs.db.error
import ovs.db.idl
import ovs.db.schema
import ovs.jsonrpc
import ovs.poller
import ovs.stream
from ovsdbapp.backend.ovs_idl.connection import OvsdbIdl

from netctl.drivers import stream_parser
from netctl.drivers.tables import Kind
from netctl.errors import ChangeError
from netctl.model.state import OWNER_KEY

Schema = Any
"""An ovs.db.schema.DbSchema."""

CONNECT_LIMIT = 10.0
"""Seconds within which a database must answer."""

MOST_CONDITIONS = 100
"""With more names than that, a whole table is cheaper than a condition for each."""

stream_parser.use()


class Replica:
    """A replica of one database, kept up to date by `run`. `label` names it in messages."""

    def __init__(self, label: str, remote: str, kind: Kind, schema: Schema, owner: str) -> None:
        self.label = label
        self.remote = remote
        self.kind = kind
        self.owner = owner
        self._connected = False
        local = remote.startswith("unix:") and "," not in remote
        self.idl = (_LocalIdl if local else _Idl)(remote, _Shared(schema))
        for name, table in kind.tables.items():
            if table.marked and name in self.idl.tables:
                mark = ["external_ids", "includes", ["map", [[OWNER_KEY, owner]]]]
                adopted = [[table.key, "==", row] for row in table.adopted]
                seen = [[column, "==", value] for column, value in table.seen.items()]
                self.idl.tables[name].condition = [mark, *adopted, *seen]

    def look_for(self, table: str, names: Collection[str]) -> None:
        """From the next `run` on, replicate rows with these names too, whoever's they are."""
        if table in self.idl.tables:
            also = [["name", "==", name] for name in names] if len(names) <= MOST_CONDITIONS else [True]
            self.idl.tables[table].condition = [*self.idl.tables[table].condition, *also]

    @property
    def looking(self) -> bool:
        """Whether what `look_for` asked for is still to come."""
        states = [table.condition_state for table in self.idl.tables.values()]
        return any(state.new is not None or state.requested is not None for state in states)

    @property
    def ready(self) -> bool:
        """Whether the replica holds the database's contents."""
        return bool(self.idl.state == ovs.db.idl.Idl.IDL_S_MONITORING)

    def run(self) -> None:
        """Take in what the server has sent. Raises ChangeError when a local server is gone."""
        self.idl.run()
        alive = self.idl._session.is_connected()
        if self._connected and not alive and self.remote.startswith("unix:"):
            raise unreachable(self.label, self.remote, "the connection was closed")
        self._connected = self._connected or alive

    def rows(self, table: str) -> Iterable[Any]:
        """The rows of a table; none when the engine has no such table."""
        return self.idl.tables[table].rows.values() if table in self.idl.tables else ()

    def close(self) -> None:
        """End the connection."""
        self.idl.close()


def values(row: Any, column: str) -> dict[Any, Any]:
    """The raw values of a column: the members of a set (or one scalar) as keys, or a mapping."""
    datum = row._data[column]
    return {key.value: None if value is None else value.value for key, value in datum.values.items()}


def scalar(row: Any, column: str, default: Any = None) -> Any:
    """The value of a column with one value, or the default where an optional column has none."""
    return next(iter(values(row, column)), default)


def run_until(
    replicas: Iterable[Replica],
    done: Callable[[], bool],
    limit: float,
    failure: Callable[[], ChangeError],
) -> None:
    """Run the replicas until `done`. After `limit` seconds raise what `failure` gives."""
    replicas = list(replicas)
    deadline = time.monotonic() + limit
    while True:
        for replica in replicas:
            replica.run()
        if done():
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise failure()
        poller = ovs.poller.Poller()
        for replica in replicas:
            replica.idl.wait(poller)
        poller.timer_wait(max(1, int(left * 1000)))
        poller.block()


def connect(replicas: Iterable[Replica], limit: float = CONNECT_LIMIT) -> None:
    """Wait until all replicas hold their database's contents."""
    waiting = list(replicas)

    def done() -> bool:
        waiting[:] = [replica for replica in waiting if not replica.ready]
        return not waiting

    run_until(
        list(waiting),
        done,
        limit,
        lambda: unreachable(waiting[0].label, waiting[0].remote, f"no answer within {limit:g} s"),
    )


def commit(
    transactions: Mapping[Replica, ovs.db.idl.Transaction],
    limit: float,
) -> dict[Replica, str]:
    """Carry out all transactions at once. Returns what each database that refused its own said."""
    pending = dict(transactions)
    failed: dict[Replica, str] = {}

    def done() -> bool:
        for replica, transaction in list(pending.items()):
            status = transaction.commit()
            if status == transaction.INCOMPLETE:
                continue
            del pending[replica]
            if status not in (transaction.SUCCESS, transaction.UNCHANGED):
                failed[replica] = str(transaction.get_error())
        return not pending

    done()
    run_until(
        transactions,
        done,
        limit,
        lambda: unreachable(
            next(iter(pending)).label, next(iter(pending)).remote, f"no answer within {limit:g} s"
        ),
    )
    return failed


def refresh(replicas: Iterable[Replica], limit: float = CONNECT_LIMIT) -> None:
    """Wait until the replicas hold all that was in the databases when this was called.

    A server sends what changed before it answers, so any answer will do: here that to an aborted transaction.
    """
    transactions = {}
    for replica in replicas:
        transaction = ovs.db.idl.Transaction(replica.idl)
        transaction.dry_run = True
        transaction.insert(next(iter(replica.idl.tables.values())))
        transactions[replica] = transaction
    commit(transactions, limit)


def refusal(remote: str) -> str | None:
    """Why a unix socket can't be connected to; None when it can, or when the remote is none."""
    if not remote.startswith("unix:"):
        return None
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        error = probe.connect_ex(remote.removeprefix("unix:"))
    finally:
        probe.close()
    if error in (0, errno.EAGAIN, errno.EINPROGRESS):
        return None
    return os.strerror(error)


def unreachable(label: str, remote: str, reason: str) -> ChangeError:
    """The error of a database that can't be used."""
    return ChangeError(
        f"{label} does not answer at {remote}: {reason}",
        "See with `netctl status` what runs; `netctl apply FILE` starts what is missing.",
    )


class _Idl(OvsdbIdl):
    """A replica without other threads to give way to: ovsdbapp's own sleeps after each row."""

    def cooperative_yield(self) -> None:
        pass


class _LocalIdl(_Idl):
    """A replica of a server on this machine, which is no member of a cluster.

    So there is no need to ask it first which member it is: that answer includes the whole schema once more.
    """

    def restart_fsm(self) -> None:
        self.sync_conditions()
        self.state = self.IDL_S_INITIAL
        self._Idl__send_monitor_request()


class _Shared(ovs.db.idl.SchemaHelper):
    """A schema that several replicas share (they only read it)."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema_json={})
        self._schema = schema

    def get_idl_schema(self) -> Schema:
        return self._schema


def fetch_schema(label: str, remote: str, kind: Kind) -> Schema:
    """Ask a server for a schema, and keep of it what tables.py names."""
    deadline = time.monotonic() + CONNECT_LIMIT
    reply = None
    reason = ""
    for one in remote.split(","):
        reply, reason = _ask(one, "get_schema", [kind.schema], deadline)
        if reply is not None:
            return _trimmed(reply, kind)
    raise unreachable(label, remote, reason)


def _ask(remote: str, method: str, params: list[Any], deadline: float) -> tuple[Any, str]:
    """The result of one request, or None and the reason."""
    error, stream = ovs.stream.Stream.open(remote)
    if error:
        return None, os.strerror(error)
    connection = None
    try:
        while (error := stream.connect()) == errno.EAGAIN and time.monotonic() < deadline:
            stream.run()
            _block(lambda poller: (stream.run_wait(poller), stream.connect_wait(poller)), deadline)
        if error:
            return None, os.strerror(error) if error != errno.EAGAIN else "no answer"
        connection = ovs.jsonrpc.Connection(stream)
        request = ovs.jsonrpc.Message.create_request(method, params)
        connection.send(request)
        while time.monotonic() < deadline:
            connection.run()
            error, message = connection.recv()
            if error == errno.EAGAIN:
                _block(lambda poller: (connection.wait(poller), connection.recv_wait(poller)), deadline)
            elif error:
                return None, "the connection was closed" if error < 0 else os.strerror(error)
            elif message.id == request.id:
                return message.result, str(message.error)
        return None, f"no answer within {CONNECT_LIMIT:g} s"
    finally:
        (connection or stream).close()


def _block(wait: Callable[[Any], Any], deadline: float) -> None:
    poller = ovs.poller.Poller()
    wait(poller)
    poller.timer_wait(max(1, int((deadline - time.monotonic()) * 1000)))
    poller.block()


def _trimmed(schema: Mapping[str, Any], kind: Kind) -> Schema:
    """The part of a schema that tables.py names and the engine has."""
    tables = {
        name: {
            **schema["tables"][name],
            "columns": {
                column: schema["tables"][name]["columns"][column]
                for column in table.monitored
                if column in schema["tables"][name]["columns"]
            },
            "indexes": [],
        }
        for name, table in kind.tables.items()
        if name in schema["tables"]
    }
    trimmed = ovs.db.schema.DbSchema.from_json(
        {"name": schema["name"], "version": schema["version"], "tables": tables}
    )
    trimmed.readonly = {}
    return trimmed


def default_of(column_type: Any) -> Any:
    """The value that a column has when nobody set it."""
    if column_type.is_map():
        return {}
    return column_type.key.type.default if column_type.n_min else []
