"""YAML -> model: every mistake of a file at once, each with its place and the next step.

Importing this costs nothing; the parser and the models are imported when first needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netctl.model.fault import Fault
    from netctl.model.intent import Assignments, Intent, LabFile

__all__ = ["assign", "dump", "edited", "fault", "load", "loads", "patched", "reassign", "schema"]


def load(path: Path | str, assignments: Assignments | None = None, *, supported_only: bool = True) -> Intent:
    """The intent of a file, with every default and assignment decided.

    What `assignments` decided before stays as it is where it may. `Intent.warnings` holds what is allowed
    but looks wrong. Raises InputError with every problem of the file. `supported_only=False` lets pass what
    this version cannot build yet (netctl.intent.supported).
    """
    from netctl.intent import stages

    return stages.load(path, assignments, supported_only=supported_only)


def loads(
    text: str, file: str = "<text>", assignments: Assignments | None = None, *, supported_only: bool = True
) -> Intent:
    """As `load`, of a text; `file` is what its problems call it."""
    from netctl.intent import stages

    return stages.loads(text, file, assignments, supported_only=supported_only)


def assign(lab: LabFile, assignments: Assignments | None = None) -> Assignments:
    """What netctl decides where the file leaves it open; pure. See netctl.intent.assignment."""
    from netctl.intent.assignment import assign as decide

    return decide(lab, assignments)


def reassign(intent: Intent, assignments: Assignments) -> Intent:
    """The same intent, with what `assignments` decided before kept where it may be."""
    from netctl.intent import stages

    return stages.reassign(intent, assignments)


def patched(intent: Intent, patch: Mapping[str, Any]) -> str:
    """The YAML of the intent's file with a patch put in: see netctl.intent.patches."""
    from netctl.intent.patches import patched as put_in

    return put_in(intent.file, patch)


def edited(
    intent: Intent, patch: Mapping[str, Any], file: str, stale: Collection[int] = ()
) -> tuple[str, int]:
    """As `patched`, but with the file's checks.

    Left out are those that `stale` numbers and those that do not go with the patched file; their number comes
    back with the text. Raises InputError when the patched file would not be right whatever it checks.
    """
    from netctl.intent import stages

    return stages.edited(intent, patch, file, stale)


def fault(intent: Intent, text: str) -> Fault:
    """What `text` (`link hv1 eth0`) breaks. InputError, with the nearest name, when it is nothing."""
    from netctl.intent.references import fault as find

    return find(intent, text)


def dump(what: LabFile | Intent) -> str:
    """The YAML of a file as written; of an intent, with all assignments pinned. See netctl.intent.writing."""
    from netctl.intent.writing import dump as write

    return write(what)


def schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors. See netctl.intent.json_schema."""
    from netctl.intent.json_schema import schema as describe

    return describe()
