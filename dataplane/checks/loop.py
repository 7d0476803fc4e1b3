"""One event loop for all sockets of a run: epoll(7), callbacks, and waits with a condition and a limit."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
Callback = Callable[[], None]

_MOST_TURNS = 100_000


class Loop:
    """Waits for sockets and calls back. Not safe to share between threads."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callback] = {}

    def watch(self, what: socket.socket, events: int, callback: Callback) -> None:
        """Call back whenever the socket is ready; a second call changes what for."""
        number = what.fileno()
        if number in self._calls:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._calls[number] = callback

    def forget(self, what: socket.socket) -> None:
        """Stop watching; to be called before the socket is closed."""
        number = what.fileno()
        if self._calls.pop(number, None):
            self._epoll.unregister(number)

    def turn(self, seconds: float) -> bool:
        """Wait for at most so long, call back for whatever is ready; whether anything was."""
        ready = self._epoll.poll(max(seconds, 0))
        for number, _ in ready:
            callback = self._calls.get(number)  # an earlier callback may have forgotten it
            if callback:
                callback()
        return bool(ready)

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Turn until the condition holds or the time is over; whether it holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                # Whatever is here already counts: a busy machine must not turn it into a failure.
                self.drain()
                return condition()
            self.turn(min(left, 1.0))
        return True

    def drain(self) -> None:
        """Call back until nothing is ready any more (or something never stops to be)."""
        for _ in range(_MOST_TURNS):
            if not self.turn(0):
                return

    def close(self) -> None:
        """Give the epoll descriptor back; the sockets are their owner's."""
        self._calls.clear()
        self._epoll.close()
