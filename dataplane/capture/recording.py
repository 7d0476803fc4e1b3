"""Packets into a pcapng file as they come.

`Writer` puts frames into an open file, whole blocks at a time. `Recording` is a capture into a file that goes
on in the background while its owner does something else.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from dataplane.capture import pcapng
from dataplane.capture.observe import Capture, Frame
from dataplane.capture.points import Point

MOST_FRAMES = 100_000
"""Frames that a recording takes at most, unless told."""


class Writer:
    """Writes the frames of one capture. What is on disk is a whole file at any time."""

    def __init__(self, descriptor: int, lab: str, points: Sequence[Point]) -> None:
        """Begin the file.

        Args:
            descriptor: open for writing; stays its owner's.
            lab: the lab's name.
            points: the points that the frames' indices stand for.
        """
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._counts = [0] * len(points)
        self._points = points
        head = [pcapng.section("netctl capture", f"lab {lab}")]
        self._put(b"".join(head + [pcapng.interface(point.name, point.about) for point in points]))

    def write(self, frames: Sequence[Frame]) -> None:
        """Add frames, in their order."""
        for frame in frames:
            self._counts[frame.point] += 1
        self._put(
            b"".join(
                pcapng.packet(frame.point, frame.time, frame.octets, frame.length, frame.flags)
                for frame in frames
            )
        )

    def finish(self, capture: Capture) -> None:
        """Add what each point has counted, and what the kernel had no room for."""
        self._put(
            b"".join(
                pcapng.statistics(
                    number, capture.began, capture.ended, self._counts[number], _told(capture, point.node)
                )
                for number, point in enumerate(self._points)
            )
        )

    def _put(self, blocks: bytes) -> None:
        begin = os.lseek(self._descriptor, 0, os.SEEK_CUR) if self._regular else 0
        left = memoryview(blocks)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            if self._regular:  # half a block is worse than none
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, begin)
            raise


def _told(capture: Capture, node: str) -> str:
    count = capture.lost.get(node)
    return f"the kernel had no room for {count} packets of the points of {node}" if count else ""


class Recording:
    """A capture into a file, in the background. A context manager; the file is whole when it is left.

    It listens when entered. Leaving it waits until all that was sent before is in the file. `error` is why
    it could not be written to the end, `count` how many frames it holds.
    """

    def __init__(self, capture: Capture, file: Path, most: int = MOST_FRAMES) -> None:
        """A recording, not yet begun.

        Args:
            capture: what is recorded; entered and left by the recording.
            file: where to; replaced if it is there.
            most: frames after which no more are taken.
        """
        self.capture, self._file, self._most = capture, file, most
        self.count = 0
        self.error: Exception | None = None
        self._over = threading.Event()

    def __enter__(self) -> Recording:
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            self.capture.__enter__()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._thread = threading.Thread(target=self._record, name="capture")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            self._thread.join()
        finally:
            self._thread.join()  # also when Ctrl-C came meanwhile: it still uses the sockets and the file
            self.capture.__exit__(None, None, None)
            os.close(self._descriptor)

    def _record(self) -> None:
        try:
            writer = Writer(self._descriptor, self.capture.lab, self.capture.points)
            for frames in self.capture.frames(self._over.is_set):
                taken = frames[: self._most - self.count]
                self.count += len(taken)
                writer.write(taken)
            writer.finish(self.capture)
        except Exception as failed:
            self.error = failed
