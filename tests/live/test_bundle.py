"""Bundles about broken labs: they hold what tells the cause, whatever else is broken."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from dataplane.checks import Result, run_checks
from dataplane.checks.session import Session
from netctl import intent as intents
from netctl.cli import bundle, operations

from .conftest import Lab, netctl
from .wires import wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def broken(lab: Lab, first_lab: dict[str, Any]) -> Iterator[Lab]:
    """A lab whose VLAN is cut off from the fabric, and whose second host does not hear of it."""
    first_lab["physical"] = {"desk": {"switch": "tor1", "vlan": 10, "ip": "10.10.0.200/24"}}
    first_lab["checks"].append({"name": "the desk's VLAN", "from": "desk", "to": "web1"})
    lab.up(first_lab)
    lab.tool("_central", "ovn-nbctl", "--wait=hv", "lsp-del", "web@vs0")
    stop(lab, "hv2", "ovn-controller", signal.SIGSTOP)
    yield lab


def stop(lab: Lab, node: str, daemon: str, number: int) -> None:
    pid = int(Path(f"/run/netctl/{lab.name}/{node}/{daemon}.pid").read_text())
    os.kill(pid, number)
    if number == signal.SIGKILL:
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "a killed daemon is gone")


def failures(lab: Lab) -> list[Result]:
    return [result for result in run_checks(intents.load(lab.file), lab.name) if not result.passed]


def points(file: Path) -> list[str]:
    """Where each frame of a capture was seen, in order."""
    return [meta.ifname.decode() for _, meta in RawPcapNgReader(str(file))]


def text(directory: Path, name: str) -> str:
    return (directory / name).read_text()


def test_it_holds_what_tells_the_cause(broken: Lab, tmp_path: Path) -> None:
    failed = failures(broken)
    assert "the desk's VLAN" in [result.name for result in failed]
    made = bundle.write(operations.locate(broken.name), failed, tmp_path / "bundle")
    assert made == tmp_path / "bundle"
    assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == ["bundle"]

    assert "+ subnet web: Logical_Switch_Port web@vs0" in text(made, "plan.txt")
    assert "web1/0" in text(made, "nb.txt")
    assert "web@vs0" not in text(made, "nb.txt")
    assert "ls_in_port_sec" in text(made, "sb.txt") or "ls_in_check_port_sec" in text(made, "sb.txt")
    assert "ovn-controller of hv2 is stopped" in text(made, "daemons.txt")
    assert "ovs-vswitchd of hv2 is running" in text(made, "daemons.txt")

    tap = intents.load(broken.file).port("web1").tap
    assert tap in text(made, "hv1/flows-brAtlas.txt")
    assert "NORMAL" in text(made, "hv1/flows-br0.txt")
    assert "bond_mode: active-backup" in text(made, "hv1/bond.txt")
    assert "dpif/show" in text(made, "hv1/datapath.txt")
    assert "drop" in text(made, "hv1/datapath.txt").partition("coverage/show")[2]
    assert "ovn-bridge-mappings" in text(made, "hv1/ovs.txt")
    assert "100.64.0." in text(made, "hv1/network.txt")
    assert "10.10.0.200/24" in text(made, "guests.txt")
    assert "NORMAL" in text(made, "tor1/flows-br.txt")
    for log in ("_central/ovn-northd", "hv2/ovn-controller", "hv1/ovs-vswitchd", "tor2/ovsdb-server"):
        assert text(made, f"{log}.log")

    seen = points(made / "way.pcapng")
    assert seen[0] == "desk"
    assert "tor1 desk.eth0" in seen
    assert "hv1 eth0" in seen
    assert f"hv1 {tap}" not in seen, "it got past the port that is not there"

    told = json.loads(text(made, "checks.json"))
    assert [check["name"] for check in told["checks"]] == [result.name for result in failed]
    readme = text(made, "README.md")
    assert "hv2/controller.txt" in readme.partition("could not be had")[2]
    explained = [
        re.sub("NODE|BRIDGE", "*", name) for name in re.findall(r"^\| (\S+) \|", readme, re.MULTILINE)
    ]
    for file in (path.relative_to(made) for path in made.rglob("*") if path.is_file()):
        assert file.name == "README.md" or any(file.match(pattern) for pattern in explained), file


def test_the_note_says_how_to_do_it_again(broken: Lab, tmp_path: Path) -> None:
    made = bundle.write(operations.locate(broken.name), failures(broken), tmp_path / "bundle")
    [line] = [line for line in text(made, "replay.md").splitlines() if "netctl test" in line]
    words = shlex.split(line)[1:]
    assert "the desk's VLAN" in words
    netctl(*words, code=1, cwd=made)
    stop(broken, "hv2", "ovn-controller", signal.SIGCONT)
    netctl("apply", "intent.yaml", cwd=made)
    netctl(*words, cwd=made)


def test_whatever_is_missing_is_a_line(broken: Lab, tmp_path: Path) -> None:
    """A stopped database, a switch that is gone, a VM without its namespace."""
    failed = failures(broken)
    stop(broken, "_central", "ovnnb_db", signal.SIGSTOP)
    stop(broken, "hv1", "ovs-vswitchd", signal.SIGKILL)
    stop(broken, "tor2", "ovsdb-server", signal.SIGSTOP)
    os.rename(f"/run/netctl/{broken.name}/hv2/ovs-vswitchd.log", tmp_path / "log")
    broken.run("web2", "ip", "link", "delete", "eth0")
    made = bundle.write(operations.locate(broken.name), failed, tmp_path / "bundle")
    missing = text(made, "README.md").partition("could not be had")[2]
    for words in (
        "nb.txt (ovn-nbctl show): ovnnb_db of _central is stopped",
        "hv1/flows-br0.txt: ovs-vswitchd of hv1 is not running",
        "tor2/ovs.txt (ovs-vsctl show): ovsdb-server of tor2 is stopped",
        "hv2/ovs-vswitchd.log: No such file or directory",
        "plan.txt (databases): no answer within",
    ):
        assert words in missing, missing
    assert "+ hv1: daemon ovs-vswitchd is not running" in text(made, "plan.txt")
    assert "link " in text(made, "plan.txt")
    assert "desk" in points(made / "way.pcapng")
    for node, daemon in (("_central", "ovnnb_db"), ("tor2", "ovsdb-server")):
        stop(broken, node, daemon, signal.SIGCONT)


def test_it_is_small_and_at_its_place(broken: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    running, failed = operations.locate(broken.name), failures(broken)
    one, other = (bundle.write(running, failed[:1]) for _ in range(2))
    assert one.parent == other.parent == tmp_path / "netctl-failures"
    assert one != other
    assert one.name.startswith(f"{broken.name}-")
    assert sorted(one.parent.iterdir()) == sorted({one, other})
    size = sum(path.stat().st_size for path in one.rglob("*") if path.is_file())
    assert size < 8 << 20


def test_interrupted_it_leaves_nothing(broken: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: while the packets are under way, points are captured, and daemons are asked."""
    monkeypatch.chdir(tmp_path)
    running, failed = operations.locate(broken.name), failures(broken)
    threads, sockets = set(threading.enumerate()), packet_sockets(broken)

    def interrupt(*_: object, **__: object) -> None:
        assert packet_sockets(broken) > sockets
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "fly", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bundle.write(running, failed)
    assert not (tmp_path / "netctl-failures").exists()
    assert packet_sockets(broken) == sockets
    left = {thread for thread in threading.enumerate() if thread not in threads}
    for thread in left:
        thread.join(30)  # the comparison with the databases ends by itself
    assert not any(thread.is_alive() for thread in left)


def packet_sockets(lab: Lab) -> int:
    return sum(
        len(lab.run(node, "cat", "/proc/net/packet").splitlines()) - 1 for node in ("web1", "hv1", "tor1")
    )
