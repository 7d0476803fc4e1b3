r"""Mininet on a running lab, the console, exec and shell; and Mininet's own `mn` with topologies/ahv.py.

        web1   app1             web2   db1
          \    /                  \    /
           hv1                     hv2
          /   \                   /   \
       tor1 ---+------ fabric ---+--- tor2
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import NETCTL, TOPOLOGIES, Lab, netctl

MN = str(Path(sys.executable).with_name("mn"))


def mininet_lab(name: str) -> Any:
    from dataplane.mininet_lab import Lab as Net

    return Net(name)


@pytest.fixture
def up(lab: Lab, first_lab: dict[str, Any]) -> Lab:
    first_lab["physical"] = {"client": {"switch": "tor1", "vlan": 10, "ip": "10.10.0.200/24"}}
    lab.up(first_lab)
    return lab


# --- the Python API -------------------------------------------------------------------------------


def test_a_script_as_in_mininet(up: Lab) -> None:
    with mininet_lab(up.name) as net:
        assert "1 received" in net.get("web1").cmd("ping -c1 web2")
        assert "1 received" in net["app1"].cmd("ping -c1 -W2 db1")
        assert [host.name for host in net.hosts] == ["app1", "client", "db1", "web1", "web2"]
        assert [switch.name for switch in net.switches] == ["tor1", "tor2"]
        assert [host.name for host in net.hypervisors] == ["hv1", "hv2"]
        assert net["web1"].IP() == "10.10.0.11"
        assert net["hv2"].IP() == "100.64.0.2"
        names = {str(link) for link in net.links}
        assert "hv1-eth0<->tor1-hv1.eth0" in names and any("web1-eth0" in name for name in names)
        assert {link.status() for link in net.links} == {"(OK OK)"}


def test_opening_a_net_starts_no_process_and_changes_nothing(up: Lab) -> None:
    before = children()
    net = mininet_lab(up.name)
    assert children() == before
    net.get("web1").cmd("true")
    assert len(children()) == len(before) + 1
    net.stop()
    assert children() == before
    assert netctl("plan", up.file, "--json").json()["changes"] == []


def children() -> set[int]:
    """PIDs of this process's children."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = entry.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(entry.parent.name))
    return found


def test_node_commands(up: Lab) -> None:
    with mininet_lab(up.name) as net:
        web1, hv1 = net.get("web1", "hv1")
        assert web1.cmd("false; echo $?").strip() == "1"
        assert web1.pexec("ping", "-c1", "web2")[2] == 0
        assert web1.popen("echo $NETCTL_NODE", shell=True).communicate()[0] == b"web1\n"
        web1.sendCmd("sleep 60")
        web1.sendInt()
        assert web1.waitOutput().strip() in ("", "^C")
        web1.sendCmd("sleep", "0.1", printPid=True)
        web1.waitOutput()
        assert web1.lastPid
        assert "br0-up" in hv1.cmd("ovs-vsctl show")
        assert "active-backup" in hv1.cmd("ovs-appctl bond/show br0-up")
        assert hv1.connected()
        assert "NORMAL" in net["tor1"].dpctl("dump-flows")
        assert web1.intf().updateIP() == "10.10.0.11"
        assert web1.intf().isUp()


def test_pings_and_links(up: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with mininet_lab(up.name) as net:
        assert net.ping([net["web1"], net["web2"], net["client"]]) == 0
        assert 0 < net.pingAll() < 100  # a VPC is closed to a VLAN
        net.configLinkStatus("client", "tor1", "down")
        assert not net["client"].intf().isUp()
        assert net.ping([net["web1"], net["client"]]) == 100
        net.configLinkStatus("client", "tor1", "up")
        assert net.ping([net["web1"], net["client"]]) == 0


def test_a_shell_ends_with_the_process_that_has_it(up: Lab) -> None:
    script = (
        "import os, sys; from dataplane.mininet_lab import Lab; net = Lab(sys.argv[1]);"
        "print(net['web1'].cmd('echo $$'), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, up.name], capture_output=True, text=True, check=False
    )
    shell = int(done.stdout.split()[0])
    deadline = time.monotonic() + 10
    while Path(f"/proc/{shell}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{shell}").exists()


# --- console, exec, shell -------------------------------------------------------------------------


def test_console_takes_a_script(up: Lab) -> None:
    commands = "nodes\nnet\nlinks\nweb1 ping -c1 web2\nhv1.cvm ip -br address\ndump\nbogus\n"
    said = netctl("console", up.name, input=commands).out
    assert "web1" in said.splitlines()[1]
    assert re.search(r"^web1 eth0:hv1-tap\d+$", said, re.MULTILINE)
    assert "hv1-eth0<->tor1-hv1.eth0 (OK OK)" in said
    assert "1 received" in said
    assert "192.168.5.2" in said
    assert "<Hypervisor hv1: br0:100.64.0.1" in said
    assert "*** Unknown command: bogus" in said


def test_exec(up: Lab) -> None:
    assert "1 received" in netctl("exec", f"{up.name}.web1", "--", "ping", "-c1", "web2").out
    assert netctl("exec", "web1", "--lab", up.name, "--", "sh", "-c", "exit 7", code=7).out == ""
    assert netctl("exec", "web1", "--lab", up.name, "--", "cat", input="through\n").out == "through\n"
    assert "command not found" in netctl("exec", f"{up.name}.web1", "no-such-command", code=127).err
    assert netctl("exec", f"{up.name}.web1", "--", "/etc/hosts", code=126).err
    assert netctl("exec", f"{up.name}.hv1", "--", "ovs-vsctl", "list-br").out.split() == ["br0", "brAtlas"]
    assert netctl("exec", f"{up.name}.tor1", "--", "ovs-appctl", "version").out
    assert netctl("exec", f"{up.name}.web1", "--", "ovn-nbctl", "ls-list").out
    assert "eth0" in netctl("exec", f"{up.name}.web1", "--", "ls", "/sys/class/net").out.split()


def test_exec_writes_nothing_to_the_machine(up: Lab) -> None:
    def machine() -> list[object]:
        mounts = Path("/proc/self/mounts").read_text()
        return [Path("/etc/hosts").read_text(), mounts, sorted(os.listdir("/run/netctl"))]

    before = machine()
    netctl("exec", f"{up.name}.web1", "--", "ping", "-c1", "web2")
    assert machine() == before


def test_signals_reach_the_command(up: Lab) -> None:
    command = [
        NETCTL,
        "exec",
        f"{up.name}.web1",
        "--",
        "sh",
        "-c",
        "trap 'exit 42' TERM; echo on; sleep 60 & wait",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 42
    process.stdout.close()


def test_shell_has_a_prompt_that_says_where(up: Lab) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [NETCTL, "shell", f"{up.name}.hv1"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(slave)
    written = until(master, f"[{up.name} hv1] ")
    os.write(master, b"ovs-vsctl list-br; exit 3\n")
    written += until(master, "exit\r\n")
    assert "brAtlas" in written
    assert process.wait(timeout=10) == 3
    os.close(master)


def until(descriptor: int, words: str) -> str:
    written = ""
    deadline = time.monotonic() + 20
    while words not in written:
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, f"waited for {words!r}, have {written!r}"
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            break
        written += data.decode(errors="replace")
    return written


def test_ping_command(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    assert "3 sent, 3 answered" in netctl("ping", f"{lab.name}.web1", "web2").out
    assert "3 answered" in netctl("ping", "app1", "192.168.2.20", "--lab", lab.name).out
    assert "0 answered" in netctl("ping", "web1", "app1", "--lab", lab.name, code=1).out


# --- Mininet's own mn -----------------------------------------------------------------------------


@pytest.fixture(params=["with mnexec", "without mnexec"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A PATH for mn: the engine's directory has an mnexec, PyPI's Mininet has none."""
    from dataplane import engine

    tools = engine.find().env()["OVS_BINDIR"]
    if request.param == "with mnexec":
        assert Path(tools, "mnexec").exists()
        yield f"{tools}:{os.environ['PATH']}"
        return
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in Path(tools).iterdir():
        if tool.name != "mnexec":
            (bare / tool.name).symlink_to(tool)
    yield f"{bare}:{os.environ['PATH']}"


def mn(path: str, *arguments: str, **options: Any) -> str:
    """Run mn in a network namespace of its own, so that nothing of the machine is in its reach."""
    done = subprocess.run(
        ["unshare", "--net", MN, "--custom", str(TOPOLOGIES / "ahv.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PATH": path},
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def daemons() -> int:
    count = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            count += entry.read_bytes().startswith(b"ovs-vswitchd\0--pidfile\0--log-file")
    return count


def test_mn_starts_a_rack(path: str) -> None:
    before = daemons()
    said = mn(path, "--topo", "ahv,4", "--test", "pingall")
    assert "*** Results: 0% dropped (56/56 received)" in said
    assert daemons() == before


def test_mn_racks_are_wired_as_hosts_are(path: str) -> None:
    script = "hv1 ovs-appctl bond/show br0-up\n"
    said = mn(path, "--topo", "ahv,2,1", input=script)
    assert "bond_mode: active-backup" in said
    assert re.search(r"active-backup primary|active member", said)
    assert "member eth0: enabled" in said and "member eth1: enabled" in said


FETCH = """
import sys, time, urllib.request
for _ in range(100):
    try:
        print("fetched", len(urllib.request.urlopen(f"http://{sys.argv[1]}:8000/", timeout=2).read()))
        break
    except OSError:
        time.sleep(0.1)
"""

CARRY = f"""
import sys
sys.path.insert(0, {str(TOPOLOGIES)!r})
import ahv
from mininet.net import Mininet
net = Mininet(topo=ahv.AhvTopo(2, 1), controller=None)
net.start()
one, two = net.get("vm1", "vm2")
two.cmd("{sys.executable} -m http.server 8000 >/dev/null 2>&1 &")
print(one.pexec([sys.executable, "-c", {FETCH!r}, two.IP()])[0])
net.configLinkStatus("hv1", "tor1", "down")
print(one.cmd(f"ping -c2 -i0.5 -W3 {{two.IP()}}"))
net.stop()
"""


def test_a_rack_of_mn_carries_tcp_and_survives_the_loss_of_an_uplink(path: str) -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-W", "ignore", "-c", CARRY],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert re.search(r"fetched [1-9]", done.stdout), done.stdout + done.stderr
    assert re.search(r"2 packets transmitted, [12] received", done.stdout), done.stdout


def test_nothing_is_left_of_a_rack_whose_mn_was_killed(path: str) -> None:
    before = daemons()
    process = subprocess.Popen(
        ["unshare", "--net", MN, "--custom", str(TOPOLOGIES / "ahv.py"), "--topo", "ahv,2,1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": path},
    )
    deadline = time.monotonic() + 60
    while daemons() < before + 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while daemons() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert daemons() == before


def test_the_topology_needs_nothing_but_mininet() -> None:
    others = ["netctl", "dataplane", "pydantic", "pyroute2", "typer"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({others!r}));"
        f"sys.path.insert(0, {str(TOPOLOGIES)!r}); import ahv; topo = ahv.topos['ahv'](3, 2);"
        "print(len(topo.hosts()), len(topo.switches()), len(topo.links()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["6", "5", "13"]
