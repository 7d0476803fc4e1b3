"""Finds values by patterns such as `vms.*.nics.*.subnet`, in plain values and in models, all in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from netctl.intent.source import Path_
from netctl.model.base import attributes

T = TypeVar("T")


class Patterns(Generic[T]):
    """What each pattern stands for. `*` is any key or index; a final `*=` any key, taken for its name."""

    def __init__(self, table: Iterable[tuple[str, T]]) -> None:
        self.root = _Level[T]()
        for pattern, meaning in table:
            level = self.root
            for step in pattern.split("."):
                level = level.below.setdefault(step, _Level())
            level.here.append(meaning)

    def find(self, data: Any) -> Iterator[tuple[Path_, T, Any]]:
        """Path, meaning and value of everything in `data` that a pattern fits."""
        yield from _find(self.root, data, ())


@dataclass
class _Level(Generic[T]):
    """What the patterns that got this far mean, and where the others go on."""

    here: list[T] = field(default_factory=list)
    below: dict[str, _Level[T]] = field(default_factory=dict)


def _find(level: _Level[T], value: Any, path: Path_) -> Iterator[tuple[Path_, T, Any]]:
    for meaning in level.here:
        yield path, meaning, value
    if isinstance(value, BaseModel):
        names = attributes(type(value))
        for step, inner in level.below.items():
            if step in names:
                yield from _find(inner, getattr(value, names[step]), (*path, step))
    elif isinstance(value, dict):
        for step, inner in level.below.items():
            if step == "*":
                for key, item in value.items():
                    yield from _find(inner, item, (*path, str(key)))
            elif step == "*=":
                for key in value:
                    for meaning in inner.here:
                        yield (*path, str(key)), meaning, key
            elif step in value:
                yield from _find(inner, value[step], (*path, step))
    elif isinstance(value, list) and "*" in level.below:
        for index, item in enumerate(value):
            yield from _find(level.below["*"], item, (*path, index))
