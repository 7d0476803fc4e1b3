"""Floods of numbered datagrams between guests: every one of them is accounted for.

The server echoes. Sender and server note each number with its time; both keep their notes until they end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from tests.live.conftest import Lab

_SERVER = """
import json, signal, socket, sys, time
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
made.bind(("0.0.0.0", int(sys.argv[1])))
seen = {}
def end(*_):
    print(json.dumps(seen), flush=True)
    raise SystemExit
signal.signal(signal.SIGINT, end)
print("ready", flush=True)
while True:
    data, sender = made.recvfrom(64)
    seen.setdefault(sender[0], []).append((int(data), time.monotonic()))
    try:
        made.sendto(data, sender)
    except OSError:
        pass
"""

_SENDER = """
import json, select, signal, socket, sys, time
address, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
made.connect((address, port))
made.setblocking(False)
going = True
def end(*_):
    global going
    going = False
signal.signal(signal.SIGINT, end)
sent, answered, due = [], {}, time.monotonic()
def drain():
    while True:
        try:
            data = made.recv(64)
        except OSError:
            return
        answered[int(data)] = time.monotonic()
print("ready", flush=True)
while going:
    now = time.monotonic()
    while due <= now:
        try:
            made.send(b"%d" % len(sent))
        except OSError:
            pass
        sent.append(now)
        due += 1 / rate
    drain()
    select.select([made], [], [], max(0.0, due - time.monotonic()))
last = time.monotonic() + 2
while time.monotonic() < last and len(answered) < len(sent):
    drain()
    time.sleep(0.01)
print(json.dumps({"sent": sent, "answered": answered}), flush=True)
"""


class _Program:
    def __init__(self, lab: Lab, node: str, code: str, *arguments: str) -> None:
        self._process = lab.start(node, sys.executable, "-c", code, *arguments)
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert first == "ready\n", first + self._process.stdout.read()

    def end(self) -> str:
        """What it says at its end."""
        self._process.send_signal(2)
        try:
            text, _ = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        return text


@dataclass(frozen=True)
class Judged:
    """What became of a flood: when each datagram was sent, and when its answer came back (by number)."""

    sent: list[float]
    answered: dict[int, float]

    @property
    def lost(self) -> list[int]:
        return [number for number in range(len(self.sent)) if number not in self.answered]

    def answered_after(self, when: float) -> int:
        """How many that were sent after a time were answered."""
        return sum(1 for number in self.answered if self.sent[number] > when)


class Server:
    """A server in a guest; `end` gives the numbers that came, with their times, by the sender's address."""

    def __init__(self, lab: Lab, node: str, port: int) -> None:
        self._program = _Program(lab, node, _SERVER, str(port))

    def end(self) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = json.loads(self._program.end())
        return found


class Flood:
    """Datagrams from a guest to an address, so many a second."""

    def __init__(self, lab: Lab, node: str, address: str, port: int, rate: int = 1000) -> None:
        self._program = _Program(lab, node, _SENDER, address, str(port), str(rate))

    def end(self) -> Judged:
        found = json.loads(self._program.end())
        return Judged(found["sent"], {int(number): when for number, when in found["answered"].items()})
