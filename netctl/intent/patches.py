"""Patches of a file: keys with their new values, as stories `apply` them (RFC 7386, JSON Merge Patch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netctl.intent.writing import dump_data
from netctl.model.intent import LabFile


def patched(lab: LabFile, patch: Mapping[str, Any]) -> str:
    """The file's text with the patch put in: maps are merged, null removes a key, anything else replaces.

    Its checks are left out: they are of the file before the patch, and may name what is no longer there.
    """
    data = plain(lab)
    data.pop("checks", None)
    return dump_data(merged(data, patch))


def plain(lab: LabFile) -> dict[str, Any]:
    """The file as plain values: what is written in it, and no default."""
    return lab.model_dump(mode="json", by_alias=True, exclude_unset=True)


def later_steps(lab: LabFile) -> Iterator[tuple[str, int, str, int]]:
    """The paths of steps behind an `apply` of their story: what they name is in the patched file."""
    for index, check in enumerate(lab.checks):
        changed = False
        for number, step in enumerate(check.steps or ()):
            if changed:
                yield "checks", index, "steps", number
            changed |= step.apply is not None


def merged(data: Any, patch: Any) -> Any:
    """What a merge patch makes of a value (RFC 7386, section 2)."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(data) if isinstance(data, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
