"""Calls carried out on a lab, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from netctl.cli import operations, output
from netctl.cli.acli import help as help_
from netctl.cli.acli.answers import Answer
from netctl.cli.acli.parser import Call
from netctl.cli.acli.task import Task
from netctl.cli.operations import Edit
from netctl.errors import InputError, NetctlError
from netctl.model.intent import Intent

_LINE = re.compile(r" \(line [0-9]+\)")
"""Where in the file: nobody has the file that a call makes."""

READING = frozenset({"list_", "get", "list_vms", "show"})
"""Functions of verbs that only tell."""


def carry_out(calls: Sequence[Call], lab: str | None, json: bool) -> None:
    """Carry out calls, up to the first that fails; tell where in a file that one stands.

    With `json`, what all of them said is one document.
    """
    results = []
    for call in calls:
        try:
            results.append(do(call, lab, quiet=json))
        except NetctlError:
            if call.file is not None:
                output.note(f"{call.file}:{call.line}: {call.text}")
            raise
    if json:
        output.emit({"results": results})


def do(call: Call, lab: str | None, *, quiet: bool = False) -> dict[str, Any]:
    """Carry out one call and print what it says, unless `quiet`; returns that as data."""
    for key, why in call.idle.items():
        output.note(f"{call.name}: {key} has no effect: {why}", style="yellow")
    verb = _verb(call)
    if verb.__name__ in READING:
        answer = help_.show(call) if call.name == "help" else verb(operations.locate(lab), call)
        assert isinstance(answer, Answer)
        if not quiet:
            output.write(answer.text)
        return {"command": call.text, "data": answer.data}
    return _change(call, operations.locate(lab).name, verb, quiet)


def _change(call: Call, lab: str, verb: Callable[[Intent, Call], Task], quiet: bool) -> dict[str, Any]:
    decided: list[Task] = []

    def decide(intent: Intent) -> Edit:
        decided[:] = [verb(intent, call)]
        return decided[0].edit

    with output.changing(call.text) as progress:
        try:
            report, dropped = operations.edit(lab, decide, progress)
        except InputError as error:
            raise _in_words(call, error) from None
    (task,) = decided
    notes = list(task.notes)
    if dropped:
        count = f"{output.plural(dropped, 'check')} of the lab {'does' if dropped == 1 else 'do'}"
        notes.append(f"{count} not go with it any more, and {'is' if dropped == 1 else 'are'} left out")
    for note in notes:
        output.note(note, style="yellow")
    if not quiet:
        for name in task.names:
            output.write(f"{name}: complete")
    return {
        "command": call.text,
        "data": [{"name": name, "status": "complete"} for name in task.names],
        "changes": len(report.changes),
        "notes": notes,
    }


def _in_words(call: Call, error: InputError) -> InputError:
    """What is wrong with the lab's file as a call would edit it: not in lines, which nobody sees."""
    if not error.problems:
        return error
    told = "; ".join(dict.fromkeys(_LINE.sub("", problem.message) for problem in error.problems))
    hints = [problem.hint for problem in error.problems if problem.hint]
    return call.wrong(told, hints[0][:1].upper() + hints[0][1:] if hints else None)


def _verb(call: Call) -> Callable[..., Any]:
    module, _, function = call.word.verb.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"netctl.cli.acli.{module}"), function)
    return found
