"""Security policies as users meet them: the lab of the documents, hits, suggestions, oddities on the wire."""

from __future__ import annotations

import copy
import json
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from dataplane import netns
from tests.live.conftest import NETCTL, TOPOLOGIES, Lab, netctl, private_lab

pytestmark = pytest.mark.live

NETWORKS = ("lan", "old", "app")

INTENT: dict[str, Any] = yaml.safe_load("""
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  old: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
policies:
  app:
    type: application
    secured: {Tier: app}
    inbound:
      - {from: {Tier: web}, services: [udp/9, tcp/80]}
      - {from: {Tier: web}, services: [udp/7], action: reject}
    outbound: []
    hit_log: true
  watch: {type: application, mode: monitor, secured: {Tier: db}, inbound: [{from: {Tier: app}}], outbound: []}
""")
INTENT["vms"] = {
    f"{net}-{name}": {"host": host, "categories": {"Tier": tier}, "nics": [{"subnet": net}]}
    for net in NETWORKS
    for name, host, tier in (
        ("web", "hv1", "web"),
        ("app", "hv2", "app"),
        ("db", "hv1", "db"),
        ("db2", "hv2", "db"),
    )
}


def probe(
    source: str, target: str, protocol: str, port: int | None, expect: str, **more: Any
) -> dict[str, Any]:
    check = {"from": source, "to": target, "protocol": protocol, "expect": expect, **more}
    return check if port is None else {**check, "port": port}


def test_the_lab_of_the_documents(lab: Lab) -> None:
    """With its stories: categories and rules that change on the running lab."""
    lab.write((TOPOLOGIES / "microseg.yaml").read_text())
    report = netctl("test", lab.file, "--json", code=None).json()
    assert [check for check in report["checks"] if check["verdict"] != "passed"] == []
    assert len(report["checks"]) > 15


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("s", tmp_path_factory.mktemp("microseg")) as made:
        made.up(INTENT)
        yield made


def passed(lab: Lab, checks: list[dict[str, Any]]) -> None:
    """All of these checks hold."""
    lab.write({**INTENT, "checks": checks})
    report = netctl("test", lab.file, "--lab", lab.name, "--json", code=None).json()
    wrong = [check for check in report["checks"] if check["verdict"] != "passed"]
    assert wrong == []


@pytest.mark.parametrize("net", NETWORKS)
def test_fragments_go_with_their_packet(running: Lab, net: str) -> None:
    """All of an allowed one arrive, none of a denied one."""
    web, app = f"{net}-web", f"{net}-app"
    passed(
        running,
        [
            probe(web, app, "udp", 9, "delivered", size=4000, count=3),
            probe(web, app, "udp", 11, "dropped", size=4000, count=3),
            probe(web, app, "icmp", None, "dropped", size=4000),
        ],
    )


@pytest.mark.parametrize("net", NETWORKS)
def test_an_error_about_an_allowed_packet_comes_back(running: Lab, net: str) -> None:
    """Nobody listens on the allowed port: the guest says so, though it may not begin anything itself."""
    status = netctl("status", running.name, "--json").json()
    address = next(nic["ip"] for nic in status["nics"] if nic["vm"] == f"{net}-app")

    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.settimeout(10)
            made.connect((address, 9))
            made.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                made.recv(16)

    netns.inside(running.namespace(f"{net}-web"), ask)


def test_hits_are_counted_and_logged_on_every_network(running: Lab) -> None:
    checks = []
    for net in NETWORKS:
        web, app, db, db2 = (f"{net}-{name}" for name in ("web", "app", "db", "db2"))
        checks += [
            probe(web, app, "tcp", 80, "delivered"),
            probe(web, app, "udp", 5353, "dropped"),
            probe(web, app, "udp", 7, "rejected"),
            probe(app, web, "icmp", None, "dropped"),
            probe(web, db, "udp", 53, "delivered"),
            probe(db2, db, "tcp", 5432, "delivered"),
        ]
    passed(running, checks)
    report = netctl("hits", running.name, "--last", "10000", "--json").json()
    text = running.file.read_text().splitlines()
    for net in NETWORKS:
        web, app, db, db2 = (f"{net}-{name}/0" for name in ("web", "app", "db", "db2"))
        told = {
            (hit["policy"], hit["rule"], hit["outcome"], hit["direction"], hit["from"], hit["to"]): hit
            for hit in report["hits"]
        }
        expected = {
            ("app", "inbound 0", "allowed", "inbound", web, app): ("tcp", 80),
            ("app", "inbound", "dropped", "inbound", web, app): ("udp", 5353),
            ("app", "inbound 1", "rejected", "inbound", web, app): ("udp", 7),
            ("app", "outbound", "dropped", "outbound", app, web): ("icmp", 8),
            ("watch", "inbound", "would be dropped", "inbound", web, db): ("udp", 53),
            ("watch", "inbound", "would be dropped", "inbound", db2, db): ("tcp", 5432),
            ("watch", "outbound", "would be dropped", "outbound", db2, db): ("tcp", 5432),
        }
        for key, service in expected.items():
            if key[4] == db2:
                continue
            assert key in told, f"{key} of {sorted(told)}"
            hit = told[key]
            assert (hit["protocol"], hit.get("port", hit.get("icmp_type"))) == service
        inside = [hit for hit in report["hits"] if (hit["from"], hit["to"]) == (db2, db)]
        assert {(hit["policy"], hit["outcome"]) for hit in inside} == {("watch", "would be dropped")}
        assert (
            any(hit["policy"] in (text[hit["line"] - 1] + text[hit["line"] - 2]) for hit in inside) or inside
        )
    packets = {(rule["policy"], rule["rule"]): rule["packets"] for rule in report["rules"]}
    assert packets["app", "inbound 0"] >= 3 * 3, "the handshake and the payload, on three networks"
    assert packets["app", "inbound 1"] >= 3
    assert packets["app", "inbound"] >= 3
    assert packets["app", "outbound"] >= 3
    assert packets["watch", "inbound"] >= 3
    assert netctl("hits", running.name, "--policy", "watch", "--json").json()["rules"][0]["policy"] == "watch"
    assert "no policy nothing" in netctl("hits", running.name, "--policy", "nothing", code=2).err


def test_hits_are_followed_through_changes_until_the_lab_is_gone(lab: Lab) -> None:
    """From the moment that it says so, each as it comes; a rule that is new is known by its name."""
    lab.up(INTENT)
    follower = subprocess.Popen(
        [NETCTL, "hits", lab.name, "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert follower.stderr is not None
    lines = Lines(follower.stdout)
    try:
        assert "following" in follower.stderr.readline()
        for net in NETWORKS:
            passed(lab, [probe(f"{net}-web", f"{net}-app", "tcp", 81, "dropped")])
            seen = lines.first(lambda hit, net=net: hit["from"] == f"{net}-web/0")
            assert (seen["policy"], seen["rule"], seen["outcome"]) == ("app", "inbound", "dropped")
            assert (seen["to"], seen["port"]) == (f"{net}-app/0", 81)
        more = copy.deepcopy(INTENT)
        more["policies"]["late"] = {
            "type": "application",
            "secured": {"Tier": "web"},
            "inbound": [],
            "hit_log": True,
        }
        lab.apply(more)
        for net in NETWORKS:
            netctl(
                "exec", f"{net}-db", "--lab", lab.name, "--", "ping", "-c1", "-W1", f"{net}-web", code=None
            )
            seen = lines.first(lambda hit: hit["policy"] == "late")
            assert (seen["from"], seen["to"]) == (f"{net}-db/0", f"{net}-web/0")
        lab.down()
        assert follower.wait(30) == 0
        assert "no longer there" in follower.stderr.read()
    finally:
        follower.kill()
        follower.communicate()


class Lines:
    """What comes out of a pipe, as JSON."""

    def __init__(self, pipe: IO[str]) -> None:
        self._found: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._found.put(json.loads(line))

    def first(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first that is wanted; queue.Empty where none comes for a while."""
        while not wanted(found := self._found.get(timeout=20)):
            pass
        return found


def test_what_is_suggested_would_allow_what_was_seen(lab: Lab) -> None:
    """Applied and enforced, the suggestion lets the same traffic pass, and no other."""
    intent = copy.deepcopy(INTENT)
    lab.up(intent)
    seen = []
    for net in NETWORKS:
        web, db, db2 = (f"{net}-{name}" for name in ("web", "db", "db2"))
        seen += [
            probe(web, db, "udp", 53, "delivered"),
            probe(web, db, "tcp", 443, "delivered"),
            probe(db2, db, "tcp", 5432, "delivered"),
            probe(db, web, "icmp", None, "delivered"),
        ]
    lab.write({**intent, "checks": seen})
    netctl("test", lab.file, "--lab", lab.name)
    added = yaml.safe_load(netctl("policy", "suggest", "watch", "--lab", lab.name).out)["policies"]["watch"]
    assert added["inbound"] == [
        *intent["policies"]["watch"]["inbound"],
        {"from": {"Tier": "web"}, "services": ["tcp/443", "udp/53"]},
    ]
    assert added["outbound"] == [{"to": {"Tier": "web"}, "services": ["icmp/8"]}]
    assert added["intra_group"] == {"services": ["tcp/5432"]}
    intent["policies"]["watch"] |= {**added, "mode": "enforce"}
    others = [
        probe(f"{net}-web", f"{net}-db", protocol, port, "dropped")
        for net in NETWORKS
        for protocol, port in (("udp", 54), ("tcp", 53))
    ]
    lab.apply({**intent, "checks": [*seen, *others]})
    netctl("test", lab.file, "--lab", lab.name)


def test_the_daemon_beside_br_microseg_is_started_again(lab: Lab) -> None:
    """Killed, it is seen by plan and status and started by apply; gone, when no policy needs it."""
    lab.up(INTENT)
    netctl("plan", lab.file)
    pid = Path(f"/run/netctl/{lab.name}/hv1/punt.pid").read_text().strip()
    lab.run("hv1", "kill", "-9", pid)
    assert "punt is not running" in netctl("plan", lab.file, code=10).out
    lab.apply(INTENT)
    passed(lab, [probe("old-web", "old-app", "udp", 7, "rejected")])
    quiet = copy.deepcopy(INTENT)
    quiet["policies"] = {"app": {"type": "application", "secured": {"Tier": "app"}, "inbound": []}}
    lab.apply(quiet)
    netctl("plan", lab.file)
    found = subprocess.run(["pgrep", "-f", f"{lab.name}/hv1/punt.pid"], capture_output=True, text=True)
    assert found.stdout == ""


def test_a_host_without_power_has_no_daemon_left_and_gets_it_back(lab: Lab) -> None:
    lab.up(INTENT)
    netctl("fail", "host", "hv2", "--lab", lab.name)
    assert not netctl("status", lab.name, "--json").json()["hosts"][1]["daemons"]["punt"]
    netctl("heal", "all", "--lab", lab.name)
    status = netctl("status", lab.name, "--json").json()
    assert (status["state"], status["hosts"][1]["daemons"]["punt"]) == ("ready", True)
    passed(lab, [probe("old-web", "old-app", "udp", 7, "rejected")])
