"""A word that changes something: the edit, and what aCLI calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netctl.cli.operations import Edit


@dataclass(frozen=True)
class Task:
    """An edit of a lab's intent.

    `names` are what aCLI says is complete: the things, or what is done to one (NicCreate). `notes` are for
    people, beside the result.
    """

    edit: Edit
    names: Sequence[str]
    notes: Sequence[str] = ()
