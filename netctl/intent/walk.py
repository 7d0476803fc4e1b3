"""Finds values by patterns such as `vms.*.nics.*.subnet`, in plain values and in models, all in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from netctl.intent.source import Path_
from netctl.model.base import attributes

T = TypeVar("T")


class Patterns(Generic[T]):
    """What each pattern stands for. `*` is any key or index; a final `*=` any key, taken for its name."""

    def __init__(self, table: Iterable[tuple[str, T]]) -> None:
        self.root: dict[str, Any] = {}
        for pattern, meaning in table:
            level = self.root
            for step in pattern.split("."):
                level = level.setdefault(step, {})
            level.setdefault("", []).append(meaning)

    def find(self, data: Any) -> Iterator[tuple[Path_, T, Any]]:
        """Path, meaning and value of everything in `data` that a pattern fits."""
        yield from self._find(self.root, data, ())

    def _find(self, level: dict[str, Any], value: Any, path: Path_) -> Iterator[tuple[Path_, T, Any]]:
        for meaning in level.get("", ()):
            yield path, meaning, value
        if isinstance(value, BaseModel):
            names = attributes(type(value))
            for step, inner in level.items():
                if step in names:
                    yield from self._find(inner, getattr(value, names[step]), (*path, step))
        elif isinstance(value, dict):
            for step, inner in level.items():
                if step == "*":
                    for key, item in value.items():
                        yield from self._find(inner, item, (*path, str(key)))
                elif step == "*=":
                    for key in value:
                        for meaning in inner[""]:
                            yield (*path, str(key)), meaning, key
                elif step in value:
                    yield from self._find(inner, value[step], (*path, step))
        elif isinstance(value, list) and "*" in level:
            for index, item in enumerate(value):
                yield from self._find(level["*"], item, (*path, index))
