"""What the commands do to a lab: the only place that strings the controller and the rack together.

    up, apply:  load -> rack builds -> controller writes -> rack activates -> wait until ready -> verify
    plan:       the same questions, no change

Kill it anywhere: every step asks what is there first, so the same command finishes the work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netctl.errors import ChangeError, ConflictError, InputError, MachineError, Problem

if TYPE_CHECKING:
    from dataplane.rack import Rack
    from dataplane.store import Record
    from netctl.model import Intent
    from netctl.model.intent import Assignments
    from netctl.model.state import State

Progress = Callable[[str], None]

NEIGHBOUR_LIMIT = 5.0
"""Seconds to wait for the bare machines to be known to the VPCs beside them."""

READY_LIMIT = 120.0
"""Seconds until all of a lab's ports must be bound and its flows in."""


@dataclass(frozen=True)
class Change:
    """One change of a plan, in words and as data."""

    text: str
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The change as JSON data."""
        return self.data


@dataclass(frozen=True)
class Report:
    """What was, or would be, changed. `exists`: the lab was there before; `faults`: what stays broken."""

    lab: str
    exists: bool
    changes: Sequence[Change]
    warnings: Sequence[Problem] = ()
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class Edit:
    """A change of a lab's intent.

    `patch` is of its file (RFC 7386); `assignments` are what netctl decided before, where the edit gives it
    to others; `stale` numbers the checks of the file that mean something else after it.
    """

    patch: Mapping[str, Any]
    assignments: Assignments | None = None
    stale: Collection[int] = ()


@dataclass(frozen=True)
class Running:
    """A lab of this machine with its present intent."""

    record: Record
    intent: Intent

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.record.name

    @cached_property
    def rack(self) -> Rack:
        """The rack that it runs on. Made when asked for: it needs all that can build one."""
        return _rack(self.intent, self.record)


@dataclass(frozen=True)
class Summary:
    """A lab in the list of labs."""

    name: str
    title: str
    state: str
    hosts: int
    vms: int
    file: str

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON data."""
        return dict(vars(self))


def up(path: Path, progress: Progress) -> Report:
    """Make the lab of a file exist and be ready.

    Raises ConflictError when a lab of that name is there already from another file.
    """
    return _bring(path, progress, same_file=True)


def apply(path: Path, progress: Progress) -> Report:
    """Move the lab to what a file says; makes the lab when it is not there."""
    return _bring(path, progress, same_file=False)


def plan(path: Path) -> Report:
    """What `apply` would change. Changes nothing."""
    _require_root()
    from dataplane import store
    from netctl import intent as intents
    from netctl import reconcile

    intent, record = _with_record(intents.load(path))
    faults = _faults(intent, record)
    rack = _rack(intent, record)
    observed = rack.observe()
    rack.refuse_foreign(observed)
    exists = record is not None or (store.directory(intent.name) / "lock").exists()
    preview = reconcile.preview(_compile(intent, rack), rack.reachable())
    changes = _from_rack(rack.difference(observed)) + _from_plan(preview)
    return Report(intent.name, exists, changes, intent.warnings, faults)


def fail(lab: str | None, fault: str, progress: Progress) -> list[str]:
    """Break something of a lab, at once and without warning, until it is healed; returns all that is broken.

    Args:
        lab: the lab's name; None: the only one.
        fault: what to break, such as `link hv1 eth0` (netctl.model.fault).
        progress: told what is being done.

    Raises:
        InputError: there is no such lab, or no such thing in it.
        ConflictError: another netctl is changing the lab.
    """
    from dataplane import faults, store
    from netctl import intent as intents

    running = locate(lab)
    with store.locked(running.name):
        running = locate(running.name)
        broken = intents.fault(running.intent, fault)
        progress(f"breaking {broken}")
        record = replace(running.record, faults=tuple(dict.fromkeys((*running.record.faults, str(broken)))))
        store.write(record)
        rack = _rack(running.intent, record)
        rack.break_down(rack.observe(faults.concerned(running.intent, [broken])))
    return list(record.faults)


def heal(lab: str | None, fault: str, progress: Progress) -> list[str]:
    """Mend what `fail` broke, or "all" of it, and wait until the lab is ready; returns what is left broken.

    What is not broken needs no healing, and is no error. Raises as `fail`, and ChangeError.
    """
    from dataplane import faults, store
    from netctl import intent as intents

    running = locate(lab)
    with store.locked(running.name):
        running = locate(running.name)
        intent, broken = running.intent, _faults(running.intent, running.record)
        healed = list(broken) if fault == "all" else [str(intents.fault(intent, fault))]
        there = [intents.fault(intent, each) for each in healed if each in broken]
        record = replace(running.record, faults=tuple(each for each in broken if each not in healed))
        if not there:
            return list(record.faults)
        progress("mending " + ", ".join(map(str, there)))
        rack = _rack(intent, record)
        if faults.stops_daemons(there):
            _change(rack, intent, _compile(intent, rack), record, progress)
        else:
            store.write(record)
            rack.break_down(rack.observe(faults.concerned(intent, there)))
            rack.recover()
    return list(record.faults)


def patch(lab: str, changes: Mapping[str, Any], progress: Progress) -> Report:
    """Change a running lab by a patch of its file (netctl.intent.patches); its file on disk stays as it is.

    Raises InputError when the lab would not be right with it, and then changes nothing.
    """
    from dataplane import store
    from netctl import intent as intents

    with store.locked(lab):
        running = locate(lab)
        text = intents.patched(running.intent, changes)
        return _move(running, text, running.record.faults, progress)


def edit(lab: str, decide: Callable[[Intent], Edit], progress: Progress) -> tuple[Report, int]:
    """Change a running lab as a command would edit its file; the file on disk stays as it is.

    Args:
        lab: the lab's name.
        decide: asked for the edit, with the lab locked so that nobody else changes it meanwhile.
        progress: told what is being done.

    Returns:
        What was changed, and how many of the file's checks no longer go with it and were left out.

    Raises:
        InputError: the lab would not be right with it; then nothing was changed.
    """
    from dataplane import store
    from netctl import intent as intents

    with store.locked(lab):
        running = locate(lab)
        wanted = decide(running.intent)
        text, dropped = intents.edited(running.intent, wanted.patch, running.record.file, wanted.stale)
        if wanted.assignments is not None:
            running = Running(replace(running.record, assignments=wanted.assignments), running.intent)
        return _move(running, text, running.record.faults, progress), dropped


def verbs(lab: str) -> Mapping[str, Callable[[Any], Intent | None]]:
    """What stories do to a running lab (dataplane.checks.story); `restore` makes it what it is now."""
    from dataplane import store

    before = locate(lab).record

    def quiet(_: str) -> None: ...

    def restore(_: object) -> Intent:
        now = locate(lab).record
        for fault in set(now.faults) - set(before.faults):
            heal(lab, fault, quiet)
        with store.locked(lab):
            running = locate(lab)
            if (running.record.text, running.record.faults) != (before.text, before.faults):
                _move(running, before.text, before.faults, quiet)
        return locate(lab).intent

    def break_(fault: str) -> None:
        fail(lab, fault, quiet)

    def mend(fault: str) -> None:
        heal(lab, fault, quiet)

    def change(changes: Mapping[str, Any]) -> Intent:
        patch(lab, changes, quiet)
        return locate(lab).intent

    return {
        "fail": break_,
        "heal": mend,
        "apply": change,
        "restore": restore,
    }


def _move(running: Running, text: str, faults: Sequence[str], progress: Progress) -> Report:
    """Make a lab, whose lock is held, what a text says, with these faults."""
    from netctl import intent as intents

    intent = intents.loads(text, running.record.file, running.record.assignments)
    record = replace(running.record, text=text, assignments=intent.assignments, faults=tuple(faults))
    record = replace(record, faults=_faults(intent, record), state="changing")
    rack = _rack(intent, record)
    changes = _change(rack, intent, _compile(intent, rack), record, progress)
    return Report(intent.name, True, changes, intent.warnings, record.faults)


def down(lab: str | None, all_labs: bool, progress: Progress) -> list[str]:
    """Remove a lab, or all; returns the names of those that were there.

    A lab that is not there is no error: what `down` promises already holds.
    """
    _require_root()
    from dataplane import rack, store

    there = known()
    names = there if all_labs else [lab or _only(there)]
    removed = []
    for name in names:
        if name not in there:
            continue
        with store.locked(name):
            progress(f"removing {name}")
            rack.remove(name)
            store.remove(name)
        removed.append(name)
    return removed


def known() -> list[str]:
    """Names of the labs that have anything on this machine."""
    from dataplane import rack, store

    return sorted({*store.labs(), *rack.marked()})


def labs() -> list[Summary]:
    """The labs of this machine."""
    _require_root()
    from dataplane import store

    found = []
    for name in known():
        try:
            record = store.read(name)
            if record is None:
                found.append(Summary(name, "", "half-made", 0, 0, ""))
                continue
            intent = _intent_of(record)
        except InputError:
            # Another version of netctl made it, or something else wrote there: the others are to be seen.
            found.append(Summary(name, "", "unreadable", 0, 0, ""))
            continue
        found.append(
            Summary(
                name, intent.file.title, record.state, len(intent.hosts), len(intent.file.vms), record.file
            )
        )
    return found


def locate(lab: str | None) -> Running:
    """The lab of that name, or the only one. InputError when there is none or the choice is not clear."""
    _require_root()
    from dataplane import store

    name = lab or _only(known())
    record = store.read(name)
    if record is None:
        there = known()
        raise InputError(
            f"there is no lab {name}" + (" (it is half-made)" if name in there else ""),
            f"Labs here: {', '.join(there)}" if there else "Bring one up with: netctl up FILE",
        )
    intent = _intent_of(record)
    return Running(record, intent)


def desired(running: Running) -> State:
    """What the databases and bridges of a lab should hold."""
    return _compile(running.intent, running.rack)


def _bring(path: Path, progress: Progress, same_file: bool) -> Report:
    _require_root()
    from dataplane import store
    from dataplane.rack import owned
    from dataplane.store import Record
    from netctl import intent as intents
    from netctl.intent import source

    progress("reading the intent")
    text = source.read(path)
    written = intents.loads(text, str(path))
    new = not store.directory(written.name).exists()
    with store.locked(written.name):
        try:
            intent, record = _with_record(written)
            if same_file and record is not None and record.file != str(path.resolve()):
                raise ConflictError(
                    f"a lab {intent.name} is there already, from {record.file}",
                    f"Move it to this file: netctl apply {path}; or remove it: netctl down {intent.name}",
                )
            rack = _rack(intent, record)
            desired = _compile(intent, rack)
            faults = _faults(intent, record)
            target = Record(
                intent.name, str(path.resolve()), text, _engine_of(rack), intent.assignments, faults=faults
            )
            changes = _change(rack, intent, desired, target, progress)
        except BaseException:
            if new and not owned(written.name):
                store.remove(written.name)  # it failed before anything else was made
            raise
    return Report(intent.name, record is not None, changes, intent.warnings, faults)


def _change(rack: Rack, intent: Intent, desired: State, target: Record, progress: Progress) -> list[Change]:
    """Make the lab what is desired, write down that it is, and return what was changed."""
    from dataplane import store
    from netctl import reconcile
    from netctl.cli.connections import end_forbidden, end_retranslated
    from netctl.drivers import Databases

    observed = rack.observe()
    rack.refuse_foreign(observed)
    rack.require_means(observed)
    store.write(target)
    changes = _from_rack(rack.difference(observed))
    renewed = rack.build(observed, progress) if changes else {}
    with Databases(rack.endpoints(), desired.owner) as databases:
        progress("writing the configuration")
        changes += _from_plan(reconcile.preview(desired, databases))
        reconcile.withdraw(desired, databases, renewed)
        reconcile.configure_switches(desired, databases)
        rack.activate(observed, progress)
        reconcile.converge(desired, databases)
        rack.prune(observed)
        progress("waiting until every port is bound and every flow is in")
        reconcile.wait_ready(intent, databases, READY_LIMIT, silent=rack.silent, whole=not target.faults)
        end_forbidden(rack, intent)
        if changes:
            end_retranslated(rack, intent)
        rack.warm(observed, changed=bool(changes))
        rack.ask_for_addresses(observed)
        if changes:
            rack.introduce(observed)
        rack.await_functions(observed)
        if changes and not target.faults:
            rack.greet()
            reconcile.wait_neighbours(intent, databases, NEIGHBOUR_LIMIT)
            rack.await_routes()
        if changes:
            progress("verifying")
            reconcile.verify(desired, databases)
    if changes:
        _verify_rack(rack)
    store.write(target.with_state("ready"))
    return changes


def _verify_rack(rack: Rack) -> None:
    left = rack.difference(rack.observe())
    if left:
        raise ChangeError(
            f"the lab {rack.lab} is not as it should be: " + "; ".join(str(change) for change in left[:5]),
            "The lab is left as it is; run the same command again, or remove it with netctl down.",
        )


def _with_record(intent: Intent) -> tuple[Intent, Record | None]:
    """The intent with what the lab of its name was assigned before, and that lab's record."""
    from dataplane import store
    from netctl import intent as intents

    record = store.read(intent.name)
    return (intent if record is None else intents.reassign(intent, record.assignments)), record


def _intent_of(record: Record) -> Intent:
    from netctl import intent as intents

    try:
        return intents.loads(record.text, record.file, record.assignments)
    except InputError as error:
        raise InputError(
            f"this netctl cannot read what the lab {record.name} was made from: {error}",
            f"Another version of netctl made it; remove it with: netctl down {record.name}",
        ) from error


def _rack(intent: Intent, record: Record | None) -> Rack:
    from dataplane import engine
    from dataplane.faults import afflicted
    from dataplane.inventory import inventory
    from dataplane.rack import Rack
    from netctl.model.fault import Fault

    broken = [Fault.parse(text) for text in _faults(intent, record)]
    return Rack(afflicted(inventory(intent), intent, broken), engine.find(record.engine if record else None))


def _faults(intent: Intent, record: Record | None) -> tuple[str, ...]:
    """What is broken on purpose in a lab; a fault of what the intent no longer has is gone."""
    from netctl import intent as intents

    there = []
    for text in record.faults if record else ():
        with contextlib.suppress(InputError):
            there.append(str(intents.fault(intent, text)))
    return tuple(there)


def _engine_of(rack: Rack) -> str:
    engine = rack.runner.engine
    return engine.name if engine.name in ("bundled", "system") else str(engine.prefix)


def _compile(intent: Intent, rack: Rack) -> State:
    from netctl.compile import compile_intent

    endpoints = rack.endpoints()
    desired = compile_intent(intent, southbound=endpoints.southbound)
    # A node whose switch is stopped on purpose gets its configuration when that is healed.
    return replace(
        desired,
        nodes={name: rows for name, rows in desired.nodes.items() if name in endpoints.nodes},
        flows={name: flows for name, flows in desired.flows.items() if name in endpoints.nodes},
    )


def _from_rack(changes: Sequence[Any]) -> list[Change]:
    return [
        Change(str(change), {"part": "rack", "sign": change.sign, "node": change.node, "what": change.what})
        for change in changes
    ]


def _from_plan(plan: Any) -> list[Change]:
    return [Change(change.text, {"part": "controller", **change.to_json()}) for change in plan]


def _only(there: Sequence[str]) -> str:
    if not there:
        raise InputError("there is no lab on this machine", "Bring one up with: netctl up FILE")
    if len(there) > 1:
        raise InputError(f"which lab? There are {', '.join(there)}", "Say which: --lab LAB")
    return there[0]


def _require_root() -> None:
    if os.geteuid() != 0:
        raise MachineError("labs need root: they are network namespaces", "Run the same command with sudo.")
