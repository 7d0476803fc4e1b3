"""Which file a test's lab is in, and what the lab is called in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from netctl.errors import InputError

LONGEST = 32
"""Characters of a name (netctl.model.base.NAME_PATTERN)."""

_DIGEST = 5


def find(word: str, places: Sequence[Path]) -> Path:
    """The file that `word` names in the first of these directories that has it. InputError when none has."""
    tried = list(dict.fromkeys((place / word).resolve() for place in places))
    for file in tried:
        if file.is_file():
            return file
    where = ", ".join(str(file) for file in tried)
    raise InputError(f"there is no lab file {word}", f"Looked for: {where}.")


def lab_name(name: str, worker: str) -> str:
    """The name of a lab in a pytest-xdist worker (gw0, gw1, ...); its own name outside of one.

    Where both together are too long, the lab's name loses its end and gets a digest of itself in its place.
    """
    if not worker:
        return name
    room = LONGEST - len(worker) - 1
    if len(name) > room:
        digest = hashlib.sha256(name.encode()).hexdigest()[: _DIGEST - 1]
        name = f"{name[: room - _DIGEST].rstrip('-')}-{digest}"
    return f"{name}-{worker}"


def renamed(text: str, name: str) -> str:
    """The text of a lab file with another name in it; all else stays, line for line.

    Args:
        text: a lab file that is right.
        name: the lab's new name.
    """
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    value = next(value for key, value in root.value if key.value == "name")
    return text[: value.start_mark.index] + name + text[value.end_mark.index :]
