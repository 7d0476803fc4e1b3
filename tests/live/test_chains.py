"""Service chains on packets: who sees what, in which order, and what misbehaving functions can do."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import TOPOLOGIES, Lab, netctl, private_lab

SUBNETS = """
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  old: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: shop, cidr: 192.168.2.0/24}
vpcs: {shop: {}}
"""

ECHO = """#!/usr/bin/env python3
# A function that misbehaves: whatever comes in goes out at both ends, and once more at the other.
import select, socket, sys
ends = []
for device in sys.argv[1:]:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(263, 23, 1)
    end.bind((device, 3))
    ends.append(end)
while True:
    for end in select.select(ends, [], [])[0]:
        frame = end.recv(65535)
        for out in (*ends, *[other for other in ends if other is not end]):
            out.send(frame)
"""

PASS = ECHO.replace(
    "(*ends, *[other for other in ends if other is not end])",
    "ends if 0 else [o for o in ends if o is not end]",
)


def checks_of(pairs: list[tuple[str, str]], through: list[str]) -> list[dict[str, Any]]:
    ways: list[dict[str, Any]] = [
        {"protocol": "icmp"},
        {"protocol": "tcp", "port": 80},
        {"protocol": "udp", "port": 53, "size": 1200},
    ]
    return [
        {"from": a, "to": b, **way, "expect": "delivered", "through": through}
        for a, b in pairs
        for way in ways
    ]


def passed(lab: Lab, intent: dict[str, Any]) -> None:
    """All checks of an intent hold on a running lab."""
    done = netctl("test", lab.write(intent), "--lab", lab.name, code=None)
    assert done.code == 0, done.out + done.err


def lab_of(chain: list[str], functions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Two VMs on hv1 and one on hv2 in each kind of network, each with the chain at its NIC."""
    intent: dict[str, Any] = {"hosts": {"hv1": {}, "hv2": {}}, **yaml.safe_load(SUBNETS)}
    intent["network_functions"] = functions
    intent["service_chains"] = {"inspect": {"functions": chain, **more}}
    intent["vms"] = {
        f"{subnet}{number}": {"host": host, "nics": [{"subnet": subnet, "chain": "inspect"}]}
        for subnet in ("lan", "old", "app")
        for number, host in ((1, "hv1"), (2, "hv1"), (3, "hv2"))
    }
    intent["vms"]["db1"] = {"host": "hv2", "nics": [{"subnet": "db", "chain": "inspect"}]}
    return intent


def pairs_of(intent: dict[str, Any]) -> list[tuple[str, str]]:
    """All pairs that can talk."""
    net = {name: vm["nics"][0]["subnet"].replace("db", "app") for name, vm in intent["vms"].items()}
    return [(a, b) for a, b in permutations(net, 2) if net[a] == net[b]]


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("ch", tmp_path_factory.mktemp("chains")) as lab:
        for name, text in (("echo.py", ECHO), ("pass.py", PASS)):
            program = lab.file.with_name(name)
            program.write_text(text)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        yield lab


def test_the_lab_of_the_contract(chained: Lab) -> None:
    intent = yaml.safe_load((TOPOLOGIES / "service-chain.yaml").read_text())
    chained.up(intent)
    passed(chained, intent)
    assert netctl("plan", chained.file).code == 0


EIGHT: dict[str, Any] = {
    "a": {"mode": "inline", "program": "bridge"},
    "b": {"mode": "tap", "program": "capture"},
    "c": {"mode": "inline", "program": "firewall", "rules": [{"allow": "tcp/80"}, {"deny": "tcp"}]},
    "d": {"mode": "inline", "program": "capture"},
    "e": {"mode": "inline", "program": "delay"},
    "f": {"mode": "tap", "program": "capture"},
    "g": {"mode": "inline", "program": "./pass.py"},
    "h": {"mode": "inline", "program": "bridge"},
}


def test_eight_functions_between_all_pairs_in_each_kind_of_network(chained: Lab) -> None:
    """And then the same ones in another order, some of them left out."""
    for order in (list(EIGHT), ["b"], list("hgbc")):
        intent = lab_of(order, EIGHT)
        pairs = pairs_of(intent)
        random.Random(len(order)).shuffle(pairs)
        intent["checks"] = checks_of(pairs[:8] if len(order) < 8 else pairs, order)
        if order == list(EIGHT):
            seen = [name for name in "abc"]
            intent["checks"] += [
                {
                    "from": "old1",
                    "to": "old3",
                    "protocol": "tcp",
                    "port": 22,
                    "expect": "dropped",
                    "through": seen,
                },
                {
                    "from": "app1",
                    "to": "db1",
                    "protocol": "tcp",
                    "port": 22,
                    "expect": "dropped",
                    "through": seen,
                },
            ]
        chained.apply(intent)
        passed(chained, intent)
        assert netctl("plan", chained.write(intent)).code == 0


def packets(lab: Lab, node: str) -> int:
    """Packets that went in and out of a function, as its own kernel counts them."""
    text = lab.run(node, "ip", "-json", "-s", "link")
    return sum(
        link["stats64"][way]["packets"]
        for link in json.loads(text)
        if link["ifname"] in ("in", "out")
        for way in ("rx", "tx")
    )


def test_functions_that_send_everything_back_make_no_storm(chained: Lab) -> None:
    wild = {name: {"mode": "inline", "program": "./echo.py"} for name in "wxyz"}
    wild["t"] = {"mode": "tap", "program": "./echo.py"}
    intent = lab_of(["w", "t", "x"], wild)
    chained.apply(intent)
    address = {nic["vm"]: nic["ip"] for nic in netctl("status", chained.name, "--json").json()["nics"]}
    before = {node: packets(chained, f"{node}.hv1") for node in "wxt"}
    for sender, target in (("lan1", "lan2"), ("old1", "old2"), ("app1", "app2"), ("old1", "old3")):
        chained.run(sender, "ping", "-c", "5", "-i", "0.02", "-W", "1", address[target], code=None)
        chained.run(
            sender,
            "ping",
            "-b",
            "-c",
            "5",
            "-i",
            "0.02",
            "-W",
            "1",
            f"{address[target].rpartition('.')[0]}.255",
            code=None,
        )
    time.sleep(0.5)
    first = {node: packets(chained, f"{node}.hv1") for node in "wxt"}
    # 4 times 5 requests and answers; what echoes doubles at each function; and four probes a second.
    for node, count in first.items():
        assert count - before[node] < 2000, (node, count - before[node])
    time.sleep(1.0)
    for node, count in first.items():
        assert packets(chained, f"{node}.hv1") - count < 60, "it never ends"


def flood(lab: Lab, source: str, target: str, seconds: float) -> Any:
    """UDP, a thousand a second, each with its number."""
    code = (
        "import socket,time,struct;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);n=0\n"
        "print('go',flush=True);b=time.monotonic()\n"
        f"while time.monotonic()-b<{seconds}:\n"
        f" s.sendto(struct.pack('!Id',n,time.time()),('{target}',9999));n+=1\n"
        " time.sleep(max(0,b+n/1000-time.monotonic()))\n"
        "print(n)"
    )
    process = lab.start(source, "python3", "-c", code)
    assert process.stdout.readline().strip() == "go"
    return process


def sink(lab: Lab, target: str, seconds: float) -> Any:
    code = (
        "import socket,time,struct;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',9999))\n"
        "s.setsockopt(socket.SOL_SOCKET,33,8<<20);print('ready',flush=True)\n"
        f"s.settimeout({seconds})\n"
        "try:\n"
        " while True:\n  d,_=s.recvfrom(99);print(*struct.unpack('!Id',d),time.time())\n"
        "except TimeoutError: pass"
    )
    process = lab.start(target, "python3", "-c", code)
    assert process.stdout.readline().strip() == "ready"
    return process


def arrivals(process: Any) -> list[tuple[int, float, float]]:
    """What arrived: number, when it was sent, when it was received."""
    text, _ = process.communicate(timeout=60)
    found = [line.split() for line in text.splitlines() if re.match(r"\d", line)]
    return [(int(number), float(sent), float(received)) for number, sent, received in found]


def user_program(lab: Lab, node: str) -> int:
    """The PID of the user's program in a function."""
    found = []
    for pid in subprocess.run(
        ["ip", "netns", "pids", lab.namespace(node)], capture_output=True, text=True, check=True
    ).stdout.split():
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"pass.py" in line and b"--pidfile" not in line:
            found.append(int(pid))
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(("subnet", "on_failure"), [("old", "close"), ("app", "open")])
def test_a_function_that_hangs(chained: Lab, subnet: str, on_failure: str) -> None:
    """A thousand packets a second while its program stands still: close leaks none, open loses a moment."""
    functions = {"p": {"mode": "inline", "program": "./pass.py"}, "q": {"mode": "tap", "program": "capture"}}
    intent = lab_of(["q", "p"], functions, on_failure=on_failure)
    chained.apply(intent)
    address = {nic["vm"]: nic["ip"] for nic in netctl("status", chained.name, "--json").json()["nics"]}
    source, target = f"{subnet}1", f"{subnet}3"
    receiver = sink(chained, target, 6.0)
    sender = flood(chained, source, address[target], 7.0)
    time.sleep(1.5)
    pid = user_program(chained, "p.hv2")
    os.kill(pid, signal.SIGSTOP)
    stopped = time.time()
    try:
        time.sleep(4.0)
    finally:
        woken = time.time()
        os.kill(pid, signal.SIGCONT)
    sent = int(sender.communicate(timeout=60)[0])
    came = arrivals(receiver)
    numbers = [number for number, _, _ in came]
    early = [number for number, when, _ in came if when < stopped - 0.5]
    assert len(early) > 20 and early == list(range(len(early)))
    assert len(set(numbers)) == len(numbers), "no packet twice"
    passed_by = [number for number, _, received in came if stopped + 0.2 < received < woken - 0.05]
    if on_failure == "open":
        # It is dead after four probes that are lost, a quarter of a second apart.
        assert len(passed_by) > 20
    else:
        assert passed_by == []
    assert max(numbers) > sent * 0.8, "it goes on when the function does"


def test_a_dead_tap_is_nobody_s_business(chained: Lab) -> None:
    functions = {"p": {"mode": "inline", "program": "bridge"}, "q": {"mode": "tap", "program": "capture"}}
    intent = lab_of(["q", "p"], functions)
    chained.apply(intent)
    netctl("fail", "function", "q", "--lab", chained.name)
    try:
        intent["checks"] = [
            {"from": "old1", "to": "old3", "expect": "delivered", "through": ["p"]},
            {"from": "lan1", "to": "lan2", "expect": "delivered", "through": ["p"]},
        ]
        passed(chained, intent)
        assert netctl("plan", chained.file).code == 0
    finally:
        netctl("heal", "all", "--lab", chained.name)
    for check in intent["checks"]:
        check["through"] = ["q", "p"]
    passed(chained, intent)


def test_the_user_s_program_is_named_when_it_is_not_there(chained: Lab) -> None:
    intent = lab_of(["p"], {"p": {"mode": "inline", "program": "./not-there.py --fast"}})
    done = netctl("apply", chained.write(intent), code=5)
    assert "not-there.py" in done.err and "p." in done.err
