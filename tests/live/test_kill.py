"""kill -9 of netctl at any instant: the same command again converges, and down leaves nothing.

A neighbour lab runs all the while and must not lose a packet. `NETCTL_KILLS` sets how many instants
(make soak: hundreds).
"""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.live.conftest import NETCTL, Lab, Ping, netctl
from tests.live.test_lifecycle import address

KILLS = int(os.environ.get("NETCTL_KILLS", "30"))
SEED = int(os.environ.get("NETCTL_SEED", "0")) or random.SystemRandom().randrange(2**32)


def killed(*arguments: object, after: float) -> bool:
    """Start netctl, kill it `after` seconds; False when it was done before."""
    process = subprocess.Popen(
        [NETCTL, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


@pytest.mark.timeout(300 + 20 * KILLS)
def test_killed_anywhere_it_converges(
    lab: Lab, other_lab: Lab, first_lab: dict[str, Any], record_property: Any
) -> None:
    record_property("seed", SEED)
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    neighbour = {
        **first_lab,
        "vms": {name: first_lab["vms"][name] for name in ("web1", "web2")},
        "checks": [],
    }
    other_lab.up(neighbour)
    bystander = Ping(other_lab, "web1", address(other_lab, "web2"))
    bigger = copy.deepcopy(first_lab)
    bigger["hosts"]["hv3"] = {}
    bigger["vms"]["app2"] = {"host": "hv3", "nics": [{"subnet": "app"}, {"subnet": "web"}]}
    started = time.monotonic()
    lab.up(first_lab)
    whole = time.monotonic() - started
    hit = dict.fromkeys(("up", "apply", "down"), 0)
    for turn in range(KILLS):
        command = ("up", "apply", "down")[turn % 3]
        if command == "up":
            lab.down()
            assert lab.remains() == []
            hit["up"] += killed("up", lab.write(first_lab), after=chance.uniform(0.2, whole))
            netctl("up", lab.file)
        elif command == "apply":
            lab.write(bigger if "hv3" not in lab_hosts(lab) else first_lab)
            hit["apply"] += killed("apply", lab.file, after=chance.uniform(0.2, whole))
            netctl("apply", lab.file)
            lab.apply(first_lab)
        else:
            hit["down"] += killed("down", lab.name, after=chance.uniform(0.1, 0.5))
            netctl("down", lab.name)
            assert lab.remains() == []
            lab.up(first_lab)
        assert netctl("plan", lab.file, "--json").json()["changes"] == []
        lab.run("web1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
        lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "db1"))
    assert hit["up"] + hit["apply"] >= KILLS // 3, f"too few commands were caught alive: {hit}"
    assert bystander.lost() == 0


def lab_hosts(lab: Lab) -> list[str]:
    return [name.partition(".")[2] for name in os.listdir("/run/netns") if name.startswith(f"{lab.name}.")]


@pytest.mark.parametrize("moment", [0.3, 0.8, 1.5])
def test_ctrl_c_leaves_a_lab_to_take_up_again(lab: Lab, first_lab: dict[str, Any], moment: float) -> None:
    process = subprocess.Popen(
        [NETCTL, "up", str(lab.write(first_lab))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert "Traceback" not in words
    assert process.returncode in (0, 5, 130), words
    netctl("up", lab.file)
    lab.run("web1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
