"""The labs of one pytest process: brought up when asked for, mended between tests, taken down at the end.

Labs that were there before stay. A lab is one pytest's alone while that runs: it holds an abstract unix
socket (unix(7)) by the lab's name, which the kernel gives back however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import socket
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from dataplane import store
from netctl.cli import operations
from netctl.cli.pytest_plugin.files import lab_name, renamed
from netctl.errors import ChangeError, ConflictError, InputError, NetctlError

_UCRED = struct.Struct("=iII")
_COPIES = "netctl-pytest-{}-"
_CLAIM = "\0netctl-pytest-{}"


@dataclass(eq=False)
class Entry:
    """A lab of this process. `senders`: NICs from which the test before has sent."""

    name: str
    file: Path
    path: Path
    ours: bool
    claim: socket.socket
    senders: set[str] = field(default_factory=set)


class Pool:
    """Labs by their files."""

    def __init__(self, worker: str = "", run: str = "") -> None:
        """No lab yet.

        Args:
            worker: the pytest-xdist worker's id; "" without.
            run: what a run of pytest with workers is told by.
        """
        self._worker, self._run = worker, run
        self._entries: dict[Path, Entry] = {}
        self._numbers = itertools.count(1)
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def take(self, file: Path) -> Entry:
        """The lab of a file, up and as the file says.

        Raises:
            InputError: the file is not right.
            MachineError: not root, or the machine lacks something.
            ConflictError: somebody else uses the lab.
            ChangeError: it did not come up.
        """
        entry = self._entries.get(file)
        if entry is not None:
            _restore(entry)
            return entry
        entry = self._entries[file] = self._new(file)
        try:
            _heal(entry)
            # A worker's lab that is there already is what a run that was killed as a whole has left.
            bring = operations.apply if self._worker else operations.up
            bring(entry.path, _quiet)
        except NetctlError as error:
            if isinstance(error, ConflictError) or entry.name not in store.labs():
                self._entries.pop(file).claim.close()
            raise
        return entry

    def _new(self, file: Path) -> Entry:
        from netctl import intent as intents

        own = intents.load(file).name
        name = lab_name(own, self._worker)
        for entry in self._entries.values():
            if entry.name == name:
                raise InputError(
                    f"{entry.file} and {file} are two files of one lab, {own}",
                    "Give one of them another `name:`, so that both can be up.",
                )
        claim = _claim(name)
        ours = bool(self._worker) or name not in store.labs()
        return Entry(name, file, self.under_name(name, file), ours, claim)

    def under_name(self, name: str, file: Path) -> Path:
        """A file that says the same of the lab of that name; InputError when it is not right."""
        from netctl import intent as intents

        if intents.load(file).name == name:
            return file
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix=_COPIES.format(self._run))
        copy = Path(self._directory.name, f"{name}-{next(self._numbers)}.yaml")
        copy.write_text(renamed(file.read_text(), name))
        return copy

    def close(self) -> list[str]:
        """Take down the labs that are ours; returns what could not be done, in words."""
        trouble = []
        for file, entry in list(self._entries.items()):
            try:
                if entry.ours:
                    operations.down(entry.name, False, _quiet)
                else:
                    _restore(entry)
            except NetctlError as error:
                trouble.append(f"the lab {entry.name} is not as it should be: {error}")
            finally:
                entry.claim.close()
                del self._entries[file]
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None
        return trouble


def sweep(run: str) -> list[str]:
    """Take down the labs that killed workers of a run have left, with their files; returns their names."""
    removed = []
    for name in store.labs():
        with contextlib.suppress(InputError):  # a damaged record is nobody's
            record = store.read(name) if "-gw" in name else None
            copies = Path(record.file).parent if record is not None else Path()
            if copies.name.startswith(_COPIES.format(run)):
                removed += operations.down(name, False, _quiet)
                shutil.rmtree(copies, ignore_errors=True)
    return removed


def _heal(entry: Entry) -> None:
    record = store.read(entry.name)
    if record is not None and record.faults:
        operations.heal(entry.name, "all", _quiet)


def _restore(entry: Entry) -> None:
    """Make the lab what its file says, whatever a test did to it."""
    try:
        _heal(entry)
        operations.apply(entry.path, _quiet)
    except ChangeError:
        if not entry.ours:
            raise
        operations.down(entry.name, False, _quiet)
        operations.up(entry.path, _quiet)


def _claim(name: str) -> socket.socket:
    address = _CLAIM.format(name)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(address)
        made.listen()
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise ConflictError(
            f"another run of pytest uses the lab {name}{_holder(address)}",
            "Wait until it has ended. Runs with different labs, or the workers of one run, do not meet.",
        ) from None
    return made


def _holder(address: str) -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(address)
        pid, _, _ = _UCRED.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return f" (process {pid})"
    return ""


def _quiet(_: str) -> None: ...
