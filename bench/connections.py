"""TCP connections at a rate: run one of these in the namespace of each end.

    python connections.py serve PORT                          prints "listening", answers until it is killed
    python connections.py connect ADDRESS PORT RATE SECONDS   prints JSON: made, failed, milliseconds of each

Each connection is opened, sends an octet, gets one back and is closed; its time is from the opening to the
answer.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

LIMIT = 5.0


def serve(port: int) -> None:
    """Answer each octet with one."""
    waiting = selectors.DefaultSelector()
    listening = socket.create_server(("", port), backlog=4096)
    listening.setblocking(False)
    waiting.register(listening, selectors.EVENT_READ)
    print("listening", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listening:
                connection, _ = listening.accept()
                waiting.register(connection, selectors.EVENT_READ)
                continue
            connection = key.fileobj  # type: ignore[assignment]
            try:
                if connection.recv(1):
                    connection.send(b"x")
                    continue
            except OSError:
                pass
            waiting.unregister(connection)
            connection.close()


def connect(address: str, port: int, rate: float, seconds: float) -> None:
    """Open connections at this rate, whether or not those before are done."""
    waiting = selectors.DefaultSelector()
    begun: dict[socket.socket, float] = {}
    took: list[float] = []
    failed = 0
    start = time.monotonic()
    opened = 0
    while True:
        now = time.monotonic()
        due = min(int((now - start) * rate) + 1, int(rate * seconds))
        while opened < due:
            opened += 1
            one = socket.socket()
            one.setblocking(False)
            begun[one] = time.monotonic()
            one.connect_ex((address, port))
            waiting.register(one, selectors.EVENT_WRITE)
        if opened == int(rate * seconds) and not begun:
            break
        for key, events in waiting.select(min(0.5 / rate, 0.05)):
            one = key.fileobj  # type: ignore[assignment]
            error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error and events & selectors.EVENT_WRITE:
                one.send(b"x")
                waiting.modify(one, selectors.EVENT_READ)
                continue
            if not error:
                took.append((time.monotonic() - begun[one]) * 1000)
            failed += bool(error)
            _end(waiting, begun, one)
        for one in [one for one, when in begun.items() if time.monotonic() - when > LIMIT]:
            failed += 1
            _end(waiting, begun, one)
    print(json.dumps({"made": len(took), "failed": failed, "milliseconds": sorted(took)}))


def _end(waiting: selectors.BaseSelector, begun: dict[socket.socket, float], one: socket.socket) -> None:
    waiting.unregister(one)
    one.close()
    del begun[one]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        connect(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
