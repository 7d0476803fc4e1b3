"""Faults: what a person breaks on purpose, and `apply` leaves broken until it is healed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

FaultKind = Literal["link", "switch", "host", "function", "daemon"]


@dataclass(frozen=True, order=True, slots=True)
class Fault:
    """One broken thing, in the words of `netctl fail`: `link hv1 eth0`, `daemon hv1 ovn-controller`, ...

    `part` is what of the node is broken: a host's NIC or the switch at the other end of a link, a daemon, the
    host of one instance of a network function; "" for all of it.
    """

    kind: FaultKind
    node: str
    part: str = ""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that `text` names. ValueError when it is none; names are not looked up here."""
        kind, *rest = text.split() or [""]
        if kind not in get_args(FaultKind) or not 1 <= len(rest) <= 2:
            raise ValueError(f"`{text}` is nothing that can fail")
        return cls(cast(FaultKind, kind), *rest)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.node, self.part)))
