"""What tests use: a lab, its NICs, and three verbs (docs/pytest.md).

    lab.vm("web1").send(packet)
    lab.vm("web2").expect(packet)
    lab.vm("web3").expect_nothing()

Whatever does not hold is an AssertionError that says what came instead; whatever cannot be done is one of
netctl's errors.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from dataplane.checks.places import Place, source
from netctl.cli import operations
from netctl.cli.pytest_plugin import words
from netctl.cli.pytest_plugin.frames import build
from netctl.cli.pytest_plugin.nics import Caught, Nics, Sent
from netctl.cli.pytest_plugin.patterns import Expected, Pattern, pattern
from netctl.errors import InputError, NetctlError

if TYPE_CHECKING:
    from dataplane.checks import Result
    from dataplane.trace import Story
    from netctl.cli.trace import Word
    from netctl.model import Intent

WITHIN = 1.0
"""Seconds for a packet to come, unless told."""

P = ParamSpec("P")
T = TypeVar("T")


def _spoken(method: Callable[P, T]) -> Callable[P, T]:
    """A method whose failures show the line of the test that called it, and nothing of what is below."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            return method(*args, **kwargs)
        except (NetctlError, AssertionError) as error:
            raise error.with_traceback(None) from None

    return call


class Nic:
    """A NIC of a VM or of a bare machine."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self.name = lab, name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<NIC {self.name} of {self._lab.name}>"

    @property
    def _place(self) -> Place:
        return self._lab._place(self.name)

    @property
    def ip(self) -> str:
        """Its IPv4 address. InputError when netctl knows none."""
        address = self._place.ip
        if address is None:
            raise InputError(f"{self.name} has no address that netctl knows", "Give the NIC an `ip:`.")
        return str(address)

    @property
    def ip6(self) -> str:
        """Its IPv6 address. InputError when it has none."""
        address = self._place.ip6
        if address is None:
            raise InputError(f"{self.name} has no IPv6 address", "Give its subnet a `cidr6:`.")
        return str(address)

    @property
    def mac(self) -> str:
        """Its MAC address."""
        return self._place.mac.hex(":")

    @property
    def device(self) -> str:
        """What it is called in its VM or machine, such as eth0."""
        return self._place.device

    @property
    def namespace(self) -> str:
        """The network namespace of its VM or machine, for `ip netns exec`."""
        return f"{self._lab.name}.{self._place.node}"

    @_spoken
    def send(self, packet: Any, *, vlan: int | None = None) -> Any:
        """Put a packet on the wire, past the guest's own system.

        Args:
            packet: a scapy packet. Before IP comes the Ethernet header that the guest would make: the next
                hop by its routing table, the MAC address by ARP (IPv6: as a neighbour). `IP.src` and
                `Ether.src` are the NIC's own unless they are written. Or the octets of a whole frame, which
                are sent as they are.
            vlan: with the tag of this VLAN around it; then the next hop is `IP.dst` itself.

        Returns:
            The packet, with the addresses that were filled in; `expect` takes it.

        Raises:
            InputError: there is no way to go, or nobody answers ARP.
        """
        return self._lab._send(self._place, packet, vlan)

    @overload
    def expect(
        self,
        expected: Expected,
        *,
        within: float = WITHIN,
        count: Literal[1] = 1,
        ignore: Sequence[str] = (),
    ) -> Any: ...

    @overload
    def expect(
        self, expected: Expected, *, within: float = WITHIN, count: int, ignore: Sequence[str] = ()
    ) -> list[Any]: ...

    @_spoken
    def expect(
        self,
        expected: Expected,
        *,
        within: float = WITHIN,
        count: int = 1,
        ignore: Sequence[str] = (),
    ) -> Any:
        """Take a packet that has come in since the test began, or comes.

        Args:
            expected: a scapy packet, of which the fields count that are written; the octets of a frame, of
                which all count; a tcpdump expression; or a function that gets each packet.
            within: seconds to wait for it, at least.
            count: how many of them; each packet is taken once.
            ignore: fields that do not count, such as "ttl" or "IP.src".

        Returns:
            The packet as it came in, by scapy, with the kernel's `time`; for a `count` above 1 a list.

        Raises:
            AssertionError: fewer came; says what did, and where this one was last seen.
        """
        wanted = pattern(expected, ignore, self._lab._addresses())
        taken = self._lab._expect(self._place, wanted, within, count)
        packets = [words.dissected(each) for each in taken]
        return packets[0] if count == 1 else packets

    @_spoken
    def expect_nothing(self, expected: Expected = None, *, ignore: Sequence[str] = ()) -> None:
        """Make sure that no such packet has come in since the test began, or is still to come.

        There is no waiting: behind all packets that were sent goes one that must arrive.

        Args:
            expected: as with `expect`; without it, everything but what systems send of their own accord. What
                `expect` has taken does not count.
            ignore: as with `expect`.

        Raises:
            AssertionError: something came.
        """
        wanted = None if expected is None else pattern(expected, ignore, self._lab._addresses())
        self._lab._expect_nothing(self._place, wanted)


class Lab:
    """A running lab. A test gets it as it is in its file, and may do to it what it wants."""

    def __init__(
        self,
        name: str,
        intent: Intent,
        nics: Nics,
        find: Callable[[str], Path],
        directory: Callable[[], Path],
    ) -> None:
        """A lab for one test.

        Args:
            name: the lab's name.
            intent: what it is.
            nics: its NICs, listened to.
            find: finds the file that a word of the test means, under this lab's name.
            directory: makes a directory for the test's files.
        """
        self.name, self.intent = name, intent
        self.nics, self._find, self._directory = nics, find, directory
        self._numbers = itertools.count(1)
        self.failed: list[Result] = []

    def __repr__(self) -> str:
        return f"<lab {self.name}>"

    @_spoken
    def vm(self, name: str) -> Nic:
        """A NIC: of a VM the first (`web1`) or any (`web1/1`), of a bare machine its only one."""
        return Nic(self, source(self.intent, self.nics.places, name).name)

    @_spoken
    def verify_no_other_packets(self) -> None:
        """Make sure that no packet has come in at any NIC, or is still to, but those that were expected.

        Not counted are a system's own packets (docs/pytest.md).
        """
        self.nics.settle()
        left = [each for each in self.nics.caught if not each.taken and self.nics.is_test_packet(each)]
        if left:
            raise AssertionError(words.unexpected("", left, self.nics))
        self.nics.refuse_if_lost()

    @_spoken
    def check(self, *, from_: Any = None, to: Any = None, **more: Any) -> Result:
        """Run one check, as in a lab file's `checks:`, with `from_` for `from`.

        Returns:
            The result, with what was seen.

        Raises:
            AssertionError: it does not hold.
            InputError: it cannot be run as it is written.
        """
        from dataplane.checks import run_checks
        from netctl import intent as intents

        ends = {"from": from_, "to": to}
        entry = {key: str(value) for key, value in ends.items() if value is not None} | more
        text = intents.patched(self.intent, {"checks": [entry]})
        try:
            intent = intents.loads(text, "lab.check", self.intent.assignments)
        except InputError as error:
            found = (f"{problem.message}; {problem.hint}".rstrip("; ") for problem in error.problems)
            raise InputError("\n  ".join(each.removeprefix("checks[0].") for each in found)) from None
        [result] = run_checks(intent, self.name, verbs=operations.verbs(self.name))
        if not result.passed:
            self.failed.append(result)
            raise AssertionError(
                "\n  ".join((result.expected, result.seen, *(f"  {line}" for line in result.evidence)))
            )
        return result

    @_spoken
    def apply(self, what: Mapping[str, Any] | str | Path) -> None:
        """Change the lab, until the test ends.

        Args:
            what: keys of its file with their new values (None removes one), or another file.
        """
        if isinstance(what, Mapping):
            operations.patch(self.name, what, _quiet)
        else:
            operations.apply(self._find(str(what)), _quiet)
        self._follow()

    @_spoken
    def fail(self, what: str) -> None:
        """Break something, as `netctl fail` does: `link hv1 eth0`, `switch tor1`, `host hv2`..."""
        operations.fail(self.name, what, _quiet)
        self.nics.forget_neighbors()

    @_spoken
    def heal(self, what: str = "all") -> None:
        """Mend what was broken, or all of it, and wait until the lab is ready."""
        operations.heal(self.name, what, _quiet)
        self.nics.forget_neighbors()

    @_spoken
    def trace(
        self, a: Any, b: Any, *, protocol: Word = "icmp", port: int = 0, vlan: int | None = None
    ) -> Story:
        """Why a packet from one NIC to another, or to an address, goes where it goes (netctl.cli.trace)."""
        from netctl.cli.trace import follow

        return follow(operations.locate(self.name), str(a), str(b), protocol, port, vlan)

    @contextlib.contextmanager
    def capture(self, *points: Any, file: Path | str | None = None) -> Iterator[Path]:
        """Within, packets at these points are written to a pcapng file; gives its path.

        Args:
            points: as with `netctl capture`; all without any.
            file: where to; by default a file in pytest's directory for temporary ones.
        """
        from dataplane.capture import Capture, Recording
        from netctl.cli.capture import find_points

        found = find_points(operations.locate(self.name)).find(map(str, points))
        target = Path(file) if file else self._directory() / f"capture-{next(self._numbers)}.pcapng"
        recording = Recording(Capture(self.name, found), target)
        with recording:
            yield target
        if recording.error:
            raise recording.error

    # --- for its NICs

    def _place(self, name: str) -> Place:
        return source(self.intent, self.nics.places, name)

    def _follow(self) -> None:
        self.intent = operations.locate(self.name).intent
        self.nics.follow(self.intent)

    def _addresses(self) -> Mapping[str, Sequence[str]]:
        from netctl.cli.capture import addresses

        return addresses(self.intent)

    def _send(self, place: Place, packet: Any, vlan: int | None) -> Any:
        sent, frame = build(self.nics, place, packet, vlan)
        try:
            self.nics.send(place, frame)
        except OSError as error:
            raise InputError(
                f"{place.name} did not take a frame of {len(frame)} octets: {error.strerror}",
                f"Its MTU is {place.mtu}; is the NIC up?",
            ) from None
        return sent

    def _expect(self, place: Place, wanted: Pattern, within: float, count: int) -> list[Caught]:
        found: list[Caught] = []
        looked = itertools.count()
        at = next(looked)

        def enough() -> bool:
            nonlocal at
            for each in self.nics.caught[at:]:
                at = next(looked)
                if len(found) < count and _is_free(each, place) and not wanted.differences(each.frame):
                    found.append(each)
            return len(found) >= count

        if not self.nics.wait(enough, within) and self.nics.sent:
            self.nics.settle([place])
        if not enough():
            raise AssertionError(
                words.missing(place, wanted, len(found), count, self.nics, self._last(wanted))
            )
        for each in found:
            self.nics.took(each)
        return found

    def _last(self, wanted: Pattern) -> Sent | None:
        """What was sent and should have come: the last that fits, else the last."""
        fitting = [each for each in self.nics.sent if not wanted.differences(each.frame)]
        return next(reversed(fitting or self.nics.sent), None)

    def _expect_nothing(self, place: Place, wanted: Pattern | None) -> None:
        self.nics.settle([place])
        left: Iterable[Caught] = (each for each in self.nics.caught if _is_free(each, place))
        if wanted is None:
            left = filter(self.nics.is_test_packet, left)
        else:
            left = (each for each in left if not wanted.differences(each.frame))
        if found := list(left):
            raise AssertionError(words.unexpected(place.name, found, self.nics))
        self.nics.refuse_if_lost()


def _is_free(caught: Caught, place: Place) -> bool:
    return not caught.taken and caught.place.name == place.name


def _quiet(_: str) -> None: ...
