"""The proof: what packets really do in a live lab, told without luck (docs/checks.md).

run_checks   the checks of an intent against its lab
ping         a few pings between two of its nodes
Session      the core under both, for any number of flights side by side
"""

from dataplane.checks.matrix import Reach, matrix
from dataplane.checks.run import Ping, Result, describe, ping, run_checks, selected
from dataplane.checks.session import Session

__all__ = ["Ping", "Reach", "Result", "Session", "describe", "matrix", "ping", "run_checks", "selected"]
