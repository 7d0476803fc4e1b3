"""The daemon of a host that sees whether its network functions live: it sends a frame through each of them.

    python -I health.py --pidfile=FILE --log-file=FILE --wanted=FILE --found=FILE --ofctl=FILE SOCKET

Four times a second a ping goes into each inline function, from PROBE_MAC, and br.nf hands over what comes out
on its other side. A function is dead when the switch has taken four of them and none has come out since; it
lives again with the second that does. Only what the switch has taken counts (an OpenFlow barrier behind the
probe says so): a switch that is slow makes no function dead.

What is dead goes into br.nf as a flow of the table that chains with `on_failure: open` ask, and into the file
that `netctl status` reads. WANTED is a file of JSON, {function: {"enter": port, "leave": port, "flow": match,
"cookie": cookie}}, and read again when it changes.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from dataplane import processor, punt

CONTROLLER_ID = 24947
"""The `id` of the actions that are for this daemon."""

PROBE_MAC = bytes.fromhex(processor.PROBE_MAC.replace(":", ""))
TARGET_MAC = bytes.fromhex("0a6e66000002")

INTERVAL = 0.25
"""Seconds between two probes of a function."""

MISSES, HITS = 4, 2
"""Probes that are lost before a function is dead, and that come out before it lives again."""

AGAIN = 1.0
"""Seconds after which a dead function's flow is put in again, if somebody has swept it away."""

_MULTIPART_REQUEST, _MULTIPART_REPLY, _PORT_DESC = 18, 19, 13
_EXPERIMENTER, _BARRIER_REQUEST, _BARRIER_REPLY = 4, 20, 21
_PORT = struct.Struct("!I4x6s2x16s32x")


@dataclass
class State:
    """A function. `alive` None: nothing is known yet."""

    enter: str
    leave: str
    flow: str
    cookie: str
    alive: bool | None = None
    since: float = 0.0
    sent: int = 0
    came: int = 0
    lost: int = 0
    hits: int = 0
    written: float = 0.0


def probe(number: int) -> bytes:
    """A ping (RFC 792) that no function has a reason to drop, with a number."""
    body = struct.pack("!BBHHH", 8, 0, 0, 0x6E66, number & 0xFFFF) + bytes(24)
    body = body[:2] + struct.pack("!H", punt.checksum(body)) + body[4:]
    addresses = bytes((169, 254, 110, 1, 169, 254, 110, 2))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, 1, 0) + addresses
    head = head[:10] + struct.pack("!H", punt.checksum(head)) + head[12:]
    return TARGET_MAC + PROBE_MAC + b"\x08\x00" + head + body


def ports(body: bytes) -> dict[str, int]:
    """The ports of the bridge by name, of a reply that describes them."""
    found = {}
    for at in range(8, len(body) - _PORT.size + 1, _PORT.size):
        number, _, name = _PORT.unpack_from(body, at)
        found[name.rstrip(b"\0").decode()] = number
    return found


class Health:
    """What is known of the functions, and who is told."""

    def __init__(self, wanted: str, found: str, ofctl: str, target: str) -> None:
        self._wanted, self._found, self._ofctl, self._target = wanted, found, ofctl, target
        self._stamp: tuple[int, int] | None = None
        self.states: dict[str, State] = {}

    def look(self) -> None:
        """Read again which functions there are, if that has changed."""
        try:
            seen = os.stat(self._wanted)
        except OSError:
            return
        if self._stamp == (seen.st_mtime_ns, seen.st_ino):
            return
        self._stamp = (seen.st_mtime_ns, seen.st_ino)
        with open(self._wanted) as file:
            wanted = json.load(file)
        for name in set(self.states) - set(wanted):
            self._delete(self.states.pop(name))
        for name, one in wanted.items():
            known = self.states.get(name)
            if known is None or (known.enter, known.leave) != (one["enter"], one["leave"]):
                self.states[name] = State(**one, since=time.time())

    def take(self, state: State, came: bool) -> None:
        """A probe has come out, or the switch has taken one that has not come out yet."""
        if came:
            state.came, state.lost, state.hits = state.came + 1, 0, state.hits + 1
        else:
            state.lost += 1
        if state.lost >= MISSES:
            state.hits = 0
        alive = state.alive
        if state.lost >= MISSES and alive is not False:
            alive = False
        elif state.hits >= HITS and alive is not True:
            alive = True
        if alive is not state.alive:
            state.alive, state.since = alive, time.time()
            self._add(state) if alive is False else self._delete(state)
            self.tell()
        elif alive is False and time.monotonic() - state.written > AGAIN:
            self._add(state)

    def _add(self, state: State) -> None:
        state.written = time.monotonic()
        self._switch("add-flow", f"cookie={state.cookie},{state.flow},actions=set_field:1->reg10")

    def _delete(self, state: State) -> None:
        self._switch("del-flows", f"cookie={state.cookie}/-1,{state.flow}")

    def _switch(self, command: str, flow: str) -> None:
        words = [self._ofctl, "-OOpenFlow15", "--timeout=10", command, self._target, flow]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{command} {flow}: {done.stderr.strip()}", file=sys.stderr, flush=True)

    def tell(self) -> None:
        """Write down what is known."""
        text = json.dumps(
            {
                name: {"alive": state.alive, "since": state.since, "sent": state.sent, "came": state.came}
                for name, state in sorted(self.states.items())
            }
        )
        with open(f"{self._found}.new", "w") as file:
            file.write(text)
        os.replace(f"{self._found}.new", self._found)


class Switch(punt.Connection):
    """A connection to br.nf."""

    def __init__(self, remote: str, health: Health) -> None:
        super().__init__(remote, CONTROLLER_ID)
        self._health = health
        self._ports: dict[str, int] = {}
        self._sent: dict[int, list[tuple[State, int]]] = {}
        self._number = 0

    def round(self) -> None:
        """Ask for the ports, send a probe into each function, and a barrier behind them."""
        self._number = self._number % 0xFFFF + 1
        out = punt.message(_MULTIPART_REQUEST, struct.pack("!HH4x", _PORT_DESC, 0))
        probed = []
        for state in self._health.states.values():
            port = self._ports.get(state.enter)
            if port is not None:
                out += punt.packet_out(port, probe(self._number))
                state.sent += 1
            if self._ports:
                probed.append((state, state.came))
        self._sent[self._number] = probed
        self.socket.sendall(out + punt.message(_BARRIER_REQUEST, b"", self._number))

    def read(self) -> None:
        """Take in what has come. OSError when the bridge is gone."""
        for kind, number, body in self.messages():
            if kind == _MULTIPART_REPLY and struct.unpack_from("!H", body) == (_PORT_DESC,):
                more = ports(body)
                self._ports = {**self._ports, **more} if struct.unpack_from("!H", body, 2)[0] & 1 else more
            elif kind == _BARRIER_REPLY:
                self._taken(number)
            elif kind == _EXPERIMENTER:
                self._came(punt.properties(body[8:]))

    def _taken(self, number: int) -> None:
        """The switch has taken the probes of a round: those of the round before had a whole interval."""
        for state, came in self._sent.pop(number - 1, ()):
            if state.came == came:
                self._health.take(state, False)

    def _came(self, found: dict[int, bytes]) -> None:
        port = punt.in_port(found.get(punt.METADATA, b""))
        for state in self._health.states.values():
            if port is not None and self._ports.get(state.leave) == port:
                self._health.take(state, True)


def serve(remote: str, health: Health) -> None:
    """Probe for ever."""
    while True:
        try:
            switch = Switch(remote, health)
        except OSError:
            time.sleep(INTERVAL)
            continue
        try:
            due = told = time.monotonic()
            while True:
                if select.select([switch], [], [], max(0.0, due - time.monotonic()))[0]:
                    switch.read()
                now = time.monotonic()
                if now >= due:
                    health.look()
                    switch.round()
                    due = max(due + INTERVAL, now)
                if now - told > AGAIN:
                    health.tell()
                    told = now
        except OSError:
            switch.close()
            time.sleep(INTERVAL)


def main(arguments: list[str]) -> None:
    """Go to the background, and probe."""
    options: dict[str, Any] = dict(
        one[2:].split("=", 1) for one in arguments if one.startswith("--") and "=" in one
    )
    [remote] = [one for one in arguments if not one.startswith("--")]
    health = Health(options["wanted"], options["found"], options["ofctl"], f"unix:{remote}")
    processor.detach(options["pidfile"], options["log-file"])
    serve(remote, health)


if __name__ == "__main__":
    main(sys.argv[1:])
