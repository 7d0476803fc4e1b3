"""What is kept of a test that failed: a bundle about the lab, and the packets of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dataplane.capture import Writer
from dataplane.capture.observe import Frame
from dataplane.capture.points import usual
from netctl.cli import bundle, operations
from netctl.cli.pytest_plugin.lab import Lab
from netctl.cli.pytest_plugin.nics import Nics


def keep(lab: Lab, test: str, failure: str) -> Path:
    """Write the bundle; returns its directory.

    Args:
        lab: as it is at the end of the test.
        test: the test's name.
        failure: what it failed with.

    Raises:
        NetctlError: it could not be written.
    """
    directory = bundle.write(operations.locate(lab.name), lab.failed)
    _write_packets(lab.nics, directory / "test.pcapng")
    with (directory / "README.md").open("a") as readme:
        readme.write(
            f"\n## The test\n\n{test}\n\n```text\n{failure}\n```\n\n"
            "test.pcapng has what the test sent, and all that came in at the NICs until then.\n"
        )
    return directory


def _write_packets(nics: Nics, file: Path) -> None:
    points = [point for point in usual(nics.intent) if point.name in nics.places]
    numbers = {point.name: number for number, point in enumerate(points)}
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        Writer(descriptor, nics.lab, points).write(sorted(_frames(nics, numbers)))
    finally:
        os.close(descriptor)


def _frames(nics: Nics, numbers: dict[str, int]) -> Iterator[Frame]:
    for outgoing, every in ((True, nics.sent), (False, nics.caught)):
        for each in every:
            number = numbers.get(each.place.name)
            if number is not None:
                yield Frame(each.time, number, outgoing, each.frame, len(each.frame), 0)
