"""Failovers out of ovs-vswitchd's log."""

from __future__ import annotations

from pathlib import Path

from dataplane.events import failovers

LOG = """\
2026-11-24T15:26:36.244Z|00050|bond|INFO|member eth0: enabled
2026-11-24T15:26:36.244Z|00051|bond|INFO|member eth1: enabled
2026-11-24T15:26:36.245Z|00055|bond|INFO|bond br0-up: active member is now eth1
2026-11-24T15:26:36.250Z|00061|memory|INFO|21744 kB peak resident set size after 10.1 seconds
2026-11-24T15:26:36.304Z|00057|bond|INFO|bond br0-up: active member is now eth0
2026-11-24T15:27:26.935Z|00064|bond|INFO|member eth0: link state down
2026-11-24T15:27:26.936Z|00065|bond|INFO|member eth0: disabled
2026-11-24T15:27:26.937Z|00066|bond|INFO|bond br0-up: active member is now eth1
2026-11-24T15:27:54.671Z|00084|bond|INFO|member eth0: enabled
"""


class Runner:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directory(self, node: str) -> Path:
        return self._directory / node


def test_failovers_are_told_oldest_first(tmp_path: Path) -> None:
    for host, text in (("hv1", LOG), ("hv2", LOG.replace("15:27", "15:28"))):
        (tmp_path / host).mkdir()
        (tmp_path / host / "ovs-vswitchd.log").write_text(text)
    told = failovers(Runner(tmp_path), ["hv1", "hv2", "gone"], 4)  # type: ignore[arg-type]
    assert [(event.host, event.what) for event in told] == [
        ("hv1", "eth0 is back"),
        ("hv2", "eth0 is lost"),
        ("hv2", "br0-up: eth1 is active now"),
        ("hv2", "eth0 is back"),
    ]
