"""A session: a lab with its observers armed, its servers up, and its fence ready, for any number of flights.

    arm -> launch all flights -> wait for answers -> fence, until a round brings nothing new

Nothing is judged here (verdict.py): a session only makes sure that what was not seen by its end did not
happen.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from dataplane import netns
from dataplane.checks.fence import Fence
from dataplane.checks.flight import PATIENCE, Awaits, Flight
from dataplane.checks.ledger import Ledger
from dataplane.checks.loop import Loop
from dataplane.checks.packets import MARK_LENGTH, RUN_LENGTH, payload
from dataplane.checks.places import Place, Target, places
from dataplane.checks.places import functions as all_functions
from dataplane.checks.places import points as all_points
from dataplane.checks.senders import Senders
from dataplane.checks.servers import Servers
from dataplane.checks.sockets import Sockets
from dataplane.checks.watch import Sighting, Watch
from netctl.errors import ChangeError, ConflictError
from netctl.model import Intent

WINDOW = 128
"""Flights under way at once: what the switches' receive buffers hold with room to spare."""

PACE = 0.02
"""Seconds after which an unanswered flight no longer counts for the window. No verdict depends on it."""

RESOLVE = 0.1
"""Seconds for the sender's stack to let a packet go (it may have to ask ARP) before it is built here."""

HOLD = 0.3
"""Seconds that a router which must ask for its next hop may hold a packet (OVN does so in ovn-controller)."""

MOST = 10.0
"""Seconds after which the rounds end even though every one brought something new."""

DEFAULT_SIZE = 56
"""Octets of payload unless told: as ping(8)."""


class Session:
    """Use as a context manager: on leaving it, nothing is left in the lab."""

    def __init__(
        self,
        intent: Intent,
        lab: str,
        *,
        short: bool = False,
        tagged: bool = False,
        points: bool = False,
        functions: bool = False,
    ) -> None:
        """A session on a lab.

        Args:
            intent: what the lab is to be.
            lab: its name.
            short: there will be payloads too short for a mark.
            tagged: there will be tagged frames.
            points: watch the taps, uplinks, switches and network functions in between as well.
            functions: watch the network functions.
        """
        self.intent, self.lab, self._short, self._tagged = intent, lab, short, tagged
        between = all_points(intent) if points else all_functions(intent) if functions else []
        self.points = [each for each in between if _exists(lab, each)]
        self.places: Mapping[str, Place] = places(intent)
        self.run = secrets.token_bytes(RUN_LENGTH)
        self._numbers = itertools.count(1)
        self._slowest = 0.0
        self.fenced = 0.0
        """Seconds that the fences behind the last flights took."""

    def __enter__(self) -> Session:
        require(self.lab, self.places.values())
        self._sockets = Sockets()
        self._loop = Loop()
        self._fence: Fence | None = None
        try:
            self._arm()
        except BaseException:
            self._close()
            raise
        return self

    def _arm(self) -> None:
        hosts = {name: host.address.ip for name, host in self.intent.hosts.items() if host.bridges}
        self._fence = Fence(self.lab, self.places, hosts, self.run, self._sockets, self._loop)
        self._ledger = Ledger(self._fence.note)
        self._senders: Senders | None = None
        self._servers = Servers(self.lab, self._sockets, self._loop)
        self._watch = Watch(
            self.lab,
            [*self.places.values(), *self.points],
            self.run,
            self._sockets,
            self._loop,
            self._note,
            short=self._short,
            asking=self._tagged,
        )

    def _note(self, sighting: Sighting) -> None:
        self._ledger.note(sighting)
        if self._senders and self._tagged:
            self._senders.note(sighting)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._loop.close()
        self._sockets.close()
        if self._fence:
            self._fence.close()

    def flight(
        self,
        source: Place,
        target: Target,
        protocol: str = "icmp",
        port: int = 0,
        size: int | None = None,
        awaits: Awaits = "answer",
        vlan: int | None = None,
    ) -> Flight:
        """A new flight with a mark of its own; `size` octets of payload."""
        number = next(self._numbers)
        octets = DEFAULT_SIZE if size is None else size
        if octets < MARK_LENGTH and not self._short:
            raise ValueError("a session must be told that there are payloads too short for a mark")
        data = payload(self.run, number, octets)
        if protocol == "icmp" and target.address.version == 6:
            protocol = "icmp6"
        return Flight(number, source, target, protocol, port, data, awaits, vlan)

    def fly(self, flights: Sequence[Flight], window: int = WINDOW, patience: float | None = None) -> None:
        """Launch all of them, and return when everything that is ever to be seen of them was seen.

        `patience` is how many seconds to wait for what each awaits, instead of PATIENCE.
        ChangeError when an observer had to let packets go: then nothing can be said.
        """
        if not flights:
            return
        assert self._fence is not None
        self._watch.lost()
        self._servers.serve(flights)
        self._ledger = Ledger(self._fence.note)
        for flight in flights:
            self._ledger.enter(flight)
        senders = Senders(
            self.lab, self.places, self.run, self._sockets, self._loop, self._ledger, self._watch
        )
        self._senders = senders
        try:
            self._launch(senders, flights, window)
            self._await(senders, flights, patience)
            self._fence_off(flights)
        finally:
            self._senders = None
            senders.close()
        if lost := self._watch.lost():
            what = ", ".join(f"{node} ({count})" for node, count in sorted(lost.items()))
            raise ChangeError(
                f"the observers could not keep up and lost packets: {what}",
                "The checks say nothing this time; run them again with less traffic in the lab.",
            )

    def _launch(self, senders: Senders, flights: Iterable[Flight], window: int) -> None:
        waiting, under_way = deque(flights), deque[Flight]()
        while waiting:
            now = time.monotonic()
            while under_way and (under_way[0].settled or now - under_way[0].launched > PACE):
                under_way.popleft()
            if len(under_way) >= window:
                self._loop.turn(PACE)
                continue
            flight = waiting.popleft()
            senders.launch(flight)
            under_way.append(flight)
            self._loop.turn(0)

    def _await(self, senders: Senders, flights: Iterable[Flight], patience: float | None) -> None:
        """Wait for what each flight awaits, as long as there is patience."""
        pending = set(flights)
        while pending:
            now = time.monotonic()
            pending = {each for each in pending if not _given_up(senders, each, now, patience)}
            if pending:
                self._loop.turn(PACE)

    def _at_least(self, flights: Iterable[Flight]) -> float:
        """Seconds that a fence is to take in any case.

        Twice what the slowest packet of this session took, to its receiver or back; HOLD when a router may
        hold one that must not arrive.
        """
        for flight in flights:
            if len(flight.left) == 1:  # else nobody knows which of them it was that arrived
                for each in (*flight.arrived[:1], *flight.answers[:1]):
                    self._slowest = max(self._slowest, min(2 * flight.after(each) / 1e3, MOST))
        held = any(flight.awaits == "nothing" and _leaves(flight) for flight in flights)
        return max(self._slowest, HOLD if held else 0.0)

    def _fence_off(self, flights: Sequence[Flight]) -> None:
        """Fences, until a whole round brought nothing new.

        Behind the senders, and behind those receivers that a packet has reached and that may have
        answered. No other receiver may send: a switch that has lost it would learn where it is, and the
        fault would be gone.
        """
        assert self._fence is not None
        begin = time.monotonic()
        end = begin + MOST
        while True:
            before = sum(flight.progress for flight in flights)
            concerned = {flight.source for flight in flights}
            concerned |= {sighting.place for flight in flights for sighting in flight.arrived}
            towards = {place for flight in flights for place in flight.target.servers}
            self._fence.passes(self._watch, concerned, towards, self._at_least(flights))
            self.fenced = time.monotonic() - begin
            if sum(flight.progress for flight in flights) == before or time.monotonic() > end:
                return


def _given_up(senders: Senders, flight: Flight, now: float, patience: float | None) -> bool:
    """Whether the fence may be asked about the flight; what the stack keeps back is put on the wire first."""
    seconds = now - flight.launched
    if flight.awaits != "nothing":
        return flight.settled or seconds > (PATIENCE[flight.awaits] if patience is None else patience)
    if flight.left or flight.answered:
        return True
    if flight.trouble or seconds > RESOLVE:
        senders.craft(flight)
        return True
    return False


def _leaves(flight: Flight) -> bool:
    """Whether it goes by a gateway out of what its VPC knows by itself."""
    source, network = flight.source, flight.source.prefix(flight.version)
    if source.router(flight.version) is None or flight.crafted or flight.vlan is not None:
        return False
    if network is not None and flight.target.address in network:
        return False
    return not any(place.vpc is not None and place.vpc == source.vpc for place in flight.target.servers)


def _exists(lab: str, place: Place) -> bool:
    return netns.inode(f"{lab}.{place.node}") is not None


def require(lab: str, known: Iterable[Place]) -> None:
    """ConflictError when the lab's nodes are not there."""
    missing = sorted({place.node for place in known if not _exists(lab, place)})
    if missing:
        raise ConflictError(
            f"the lab {lab} is not running: there is no network namespace "
            + ", ".join(f"{lab}.{node}" for node in missing[:5])
            + (" ..." if len(missing) > 5 else ""),
            "Start it with `netctl up FILE`, or name a running one (`netctl labs`).",
        )
