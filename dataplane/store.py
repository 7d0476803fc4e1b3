"""What a lab keeps on disk, all under /run/netctl/LAB: its record, its lock, a directory for each node.

The record holds the intent's text and what netctl assigned; whatever else there is to know about a
lab is read from the kernel, the process table and the databases.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from netctl.errors import ConflictError, InputError, MachineError
from netctl.model import Assignments
from netctl.model.base import NAME_PATTERN

ROOT = Path("/run/netctl")


@dataclass(frozen=True)
class Record:
    """What is known about a lab: the intent that it has or is on the way to.

    `state` is `changing` from before the first change until the result is verified, then `ready`.
    `faults` are what was broken on purpose and not yet healed (netctl.model.fault).
    """

    name: str
    file: str
    text: str
    engine: str
    assignments: Assignments = field(default_factory=Assignments)
    state: str = "changing"
    faults: tuple[str, ...] = ()

    def with_state(self, state: str) -> Record:
        """The same record in another state."""
        return replace(self, state=state)


def directory(lab: str) -> Path:
    """The directory of a lab."""
    return ROOT / lab


def labs() -> list[str]:
    """Names of the labs that have left anything on this machine's disk."""
    try:
        return sorted(entry for entry in os.listdir(ROOT) if re.fullmatch(NAME_PATTERN, entry))
    except FileNotFoundError:
        return []


def read(lab: str) -> Record | None:
    """The record of a lab, None when it has none (yet).

    Raises InputError when something else than netctl wrote it.
    """
    try:
        data: dict[str, Any] = json.loads((directory(lab) / "lab.json").read_text())
        kept = data.pop("assignments")
        nics = {name: (int(n), str(mac), str(ip)) for name, (n, mac, ip) in kept.pop("nics").items()}
        speakers = {name: (int(n), str(ip)) for name, (n, ip) in kept.pop("speakers", {}).items()}
        faults = tuple(str(fault) for fault in data.pop("faults", ()))
        return Record(**data, assignments=Assignments(nics=nics, speakers=speakers, **kept), faults=faults)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the record of the lab {lab} is damaged ({directory(lab)}/lab.json: {error})",
            f"Remove the lab with: netctl down {lab}",
        ) from error


def version(lab: str) -> int | None:
    """What changes whenever a lab's record is written; None while it has none."""
    try:
        return (directory(lab) / "lab.json").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def write(record: Record) -> None:
    """Replace the record, whole or not at all."""
    final = directory(record.name) / "lab.json"
    draft = final.with_suffix(".new")
    with writing(final):
        draft.write_text(json.dumps(asdict(record), indent=1))
        draft.replace(final)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Within, a full or read-only disk becomes a MachineError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise MachineError(
                f"cannot write {target}: {error.strerror}",
                "Free some space there and run the same command again.",
            ) from error
        raise


def require_space(lab: str, octets: int) -> None:
    """Raise MachineError when there is less room than this where the lab is kept.

    A daemon that finds the disk full later does not say so: OVN just never becomes ready.
    """
    place = directory(lab)
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if free < octets:
        raise MachineError(
            f"the disk is too full: {place} has room for {free >> 10} KiB, the lab needs {octets >> 10} KiB",
            "Free some space there and run the same command again.",
        )


@contextlib.contextmanager
def locked(lab: str) -> Iterator[None]:
    """Hold the lab's lock; the kernel releases it however the holder ends.

    Raises ConflictError at once when another netctl is changing the lab.
    """
    file = directory(lab) / "lock"
    while True:
        with writing(file):
            try:
                file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # a `down` (of another lab, for the root) removed the directory just now
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            who = f" (process {holder})" if holder else ""
            raise ConflictError(
                f"another netctl is changing the lab {lab}{who}", "Wait until it is done, then try again."
            ) from None
        # A `down` may have removed the file between our open and our lock: then we hold a lock on nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(file).st_ino == os.fstat(descriptor).st_ino:
                break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        with writing(file):
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def remove(lab: str) -> None:
    """Remove everything that the lab kept on disk. The lock must be held; its file goes last."""
    place = directory(lab)
    for entry in list(place.iterdir()) if place.exists() else []:
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(OSError):
        ROOT.rmdir()  # only when this was the last lab
