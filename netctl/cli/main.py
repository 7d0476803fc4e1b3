"""The entry of `netctl`. Tiny, because a Ctrl-C while modules are imported would show a traceback."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line of this process and end it."""
    asked = signal.getsignal(signal.SIGINT)
    if asked is signal.default_int_handler:
        # Nothing has begun: until `run` can put it into words, Ctrl-C just ends the process.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from netctl.cli.app import INTERRUPTED, run

    try:
        signal.signal(signal.SIGINT, asked)
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # once more, while the first was put into words
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said; only the exit code is left
    sys.exit(code)
