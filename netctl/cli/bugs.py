"""What becomes of an error that nobody foresaw: the traceback goes to a file, one line to the user."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from netctl import __version__
from netctl.errors import Bug


def record(error: BaseException, arguments: Sequence[str]) -> Bug:
    """Write the traceback to a log file and return the error that says where it is."""
    what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    text = "".join(
        [
            f"netctl {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"$ {shlex.join(['netctl', *arguments])}\n\n",
            *traceback.format_exception(error),
        ]
    )
    for directory in _directories():
        name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text, errors="replace")
        except OSError:
            continue
        return Bug(f"a bug in netctl: {what}", f"The log is in {directory / name}; please report it.")
    return Bug(f"a bug in netctl: {what}", "Its log could not be written anywhere.")


def _directories() -> Iterator[Path]:
    if os.geteuid() == 0:
        yield Path("/var/log/netctl")
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    yield Path(state, "netctl")
    yield Path(tempfile.gettempdir())
