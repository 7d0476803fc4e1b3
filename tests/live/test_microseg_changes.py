"""Policies change under traffic: what both allow loses nothing, what neither allows never passes, and what is
no longer allowed ends. At 1,000 datagrams a second on every kind of network; NETCTL_POLICY_CHANGES sets how
many changes.
"""

from __future__ import annotations

import copy
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataplane import netns
from tests.live.conftest import Lab, netctl
from tests.live.floods import Flood, Server

pytestmark = [pytest.mark.live, pytest.mark.slow]

CHANGES = int(os.environ.get("NETCTL_POLICY_CHANGES", "10"))
NETWORKS = ("lan", "old", "app")
PORT, DENIED = 9, 10

INTENT: dict[str, Any] = yaml.safe_load("""
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  old: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
service_groups: {port: [icmp]}
policies:
  app:
    type: application
    secured: {Tier: app}
    inbound: [{from: {Tier: web}, services: [port, udp/9]}]
    outbound: []
""")
PEOPLE = {"web": ("hv1", "web"), "app": ("hv2", "app"), "idle": ("hv1", "other"), "bad": ("hv1", "other")}


def people(*more: str) -> dict[str, Any]:
    return {
        f"{net}-{name}": {
            "host": PEOPLE[name][0],
            "categories": {"Tier": PEOPLE[name][1]},
            "nics": [{"subnet": net}],
        }
        for net in NETWORKS
        for name in (*PEOPLE, *more)
        if name in PEOPLE
    }


INTENT["vms"] = people()


def addresses(lab: Lab) -> dict[str, str]:
    status = netctl("status", lab.name, "--json").json()
    return {nic["vm"]: nic["ip"] for nic in status["nics"]}


def steps(intent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The intent changed over and over, in ways that leave alone what is flooded."""
    now = copy.deepcopy(intent)

    def categories() -> None:
        for net in NETWORKS:
            have = now["vms"][f"{net}-idle"]["categories"]
            have["Tier"] = "other" if have["Tier"] == "web" else "web"

    def services() -> None:
        now["service_groups"]["port"] = ["icmp", f"tcp/{8000 + len(now['policies'])}"]

    def another() -> None:
        name = f"p{len(now['policies'])}"
        now["policies"][name] = {"type": "application", "secured": {"Tier": "web"}, "inbound": []}

    def isolation() -> None:
        if now["policies"].pop("apart", None) is None:
            now["policies"]["apart"] = {"type": "isolation", "between": [{"Tier": "other"}, {"Tier": "web"}]}

    def logging() -> None:
        app = now["policies"]["app"]
        app["hit_log"] = not app.get("hit_log", False)

    def watching() -> None:
        if now["policies"].pop("watch", None) is None:
            now["policies"]["watch"] = {"type": "quarantine", "mode": "monitor", "secured": {"Tier": "web"}}

    changes: list[Callable[[], None]] = [categories, services, another, isolation, logging, watching]
    number = 0
    while True:
        changes[number % len(changes)]()
        number += 1
        yield copy.deepcopy(now)


def test_changes_lose_nothing_that_both_allow_and_pass_nothing_that_neither_does(lab: Lab) -> None:
    lab.up(INTENT)
    known = addresses(lab)
    servers = {net: Server(lab, f"{net}-app", PORT) for net in NETWORKS}
    good = {net: Flood(lab, f"{net}-web", known[f"{net}-app"], PORT) for net in NETWORKS}
    bad = {net: Flood(lab, f"{net}-bad", known[f"{net}-app"], PORT, 200) for net in NETWORKS}
    for _, intent in zip(range(CHANGES), steps(INTENT), strict=False):
        lab.apply(intent)
    judged = {net: flood.end() for net, flood in good.items()}
    for flood in bad.values():
        flood.end()
    seen = {net: server.end() for net, server in servers.items()}
    assert {net: found.lost for net, found in judged.items()} == {net: [] for net in NETWORKS}
    assert all(len(found.sent) > 1000 for found in judged.values())
    assert {net: set(found) for net, found in seen.items()} == {
        net: {known[f"{net}-web"]} for net in NETWORKS
    }


@pytest.mark.parametrize("how", ["category", "rule", "quarantine", "isolation"])
def test_what_is_no_longer_allowed_ends_with_the_change(lab: Lab, how: str) -> None:
    """Datagrams and a TCP connection that are under way; when `apply` returns, nothing more passes."""
    lab.up(INTENT)
    known = addresses(lab)
    servers = [Server(lab, f"{net}-app", PORT) for net in NETWORKS]
    floods = {net: Flood(lab, f"{net}-web", known[f"{net}-app"], PORT, 200) for net in NETWORKS}
    changed = copy.deepcopy(INTENT)
    if how == "category":
        for net in NETWORKS:
            changed["vms"][f"{net}-web"]["categories"]["Tier"] = "other"
    elif how == "rule":
        changed["policies"]["app"]["inbound"][0]["services"] = ["port"]
    elif how == "quarantine":
        changed["policies"]["sick"] = {"type": "quarantine", "secured": {"Tier": "web"}}
    else:
        changed["policies"]["apart"] = {"type": "isolation", "between": [{"Tier": "web"}, {"Tier": "app"}]}
    lab.apply(changed)
    done = time.monotonic()
    time.sleep(1)
    judged = {net: flood.end() for net, flood in floods.items()}
    for server in servers:
        server.end()
    assert all(found.answered for found in judged.values())
    assert {net: found.answered_after(done) for net, found in judged.items()} == dict.fromkeys(NETWORKS, 0)


def connected(lab: Lab, net: str, address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A TCP connection of web to app: both of its ends."""

    def listen() -> socket.socket:
        made = socket.create_server(("0.0.0.0", port))
        made.settimeout(20)
        return made

    def connect() -> socket.socket:
        return socket.create_connection((address, port), timeout=20)

    with netns.inside(lab.namespace(f"{net}-app"), listen) as listener:
        client = netns.inside(lab.namespace(f"{net}-web"), connect)
        server, _ = listener.accept()
    server.settimeout(1.5)
    client.settimeout(1.5)
    return client, server


def passes(sender: socket.socket, receiver: socket.socket) -> bool:
    data = os.urandom(8)
    try:
        sender.sendall(data)
        return receiver.recv(8) == data
    except (TimeoutError, OSError):
        return False


def test_connections_go_on_while_they_are_allowed_and_end_when_they_are_not(lab: Lab) -> None:
    intent = copy.deepcopy(INTENT)
    intent["policies"]["app"]["inbound"][0]["services"] = ["tcp/80"]
    lab.up(intent)
    known = addresses(lab)
    ends = {net: connected(lab, net, known[f"{net}-app"], 80) for net in NETWORKS}
    try:
        more = copy.deepcopy(intent)
        more["policies"]["web"] = {"type": "application", "secured": {"Tier": "web"}, "inbound": []}
        more["policies"]["app"]["hit_log"] = True
        lab.apply(more)
        for net, (client, server) in ends.items():
            assert passes(client, server), net
            assert passes(server, client), net
        less = copy.deepcopy(more)
        less["policies"]["app"]["inbound"] = []
        lab.apply(less)
        for net, (client, server) in ends.items():
            assert not passes(client, server), net
            assert not passes(server, client), net
    finally:
        for client, server in ends.values():
            client.close()
            server.close()


def test_a_vm_that_comes_up_is_under_its_policies_from_the_first_packet(lab: Lab) -> None:
    """It floods from the moment that its namespace has an address."""
    lab.up(INTENT)
    known = addresses(lab)
    servers = {net: Server(lab, f"{net}-app", PORT) for net in NETWORKS}
    more = copy.deepcopy(INTENT)
    for net in NETWORKS:
        for name, tier in (("new", "other"), ("fresh", "web")):
            more["vms"][f"{net}-{name}"] = {
                "host": "hv1",
                "categories": {"Tier": tier},
                "nics": [{"subnet": net}],
            }
    stop = threading.Event()

    def rush(net: str, name: str) -> None:
        made = None
        while not stop.is_set():
            try:
                made = made or netns.inside(
                    lab.namespace(f"{net}-{name}"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                )
                made.sendto(b"1", (known[f"{net}-app"], PORT))
            except Exception:
                pass
            time.sleep(0.001)

    threads = [
        threading.Thread(target=rush, args=(net, name)) for net in NETWORKS for name in ("new", "fresh")
    ]
    for thread in threads:
        thread.start()
    try:
        lab.apply(more)
        time.sleep(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    known = addresses(lab)
    for net, server in servers.items():
        assert set(server.end()) == {known[f"{net}-fresh"]}, net


def watched(lab: Lab, disturb: Callable[[], None]) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Flood while something is done: how many of web's datagrams came back since, and whose reached app."""
    known = addresses(lab)
    servers = {net: Server(lab, f"{net}-app", PORT) for net in NETWORKS}
    good = {net: Flood(lab, f"{net}-web", known[f"{net}-app"], PORT, 200) for net in NETWORKS}
    bad = [Flood(lab, f"{net}-bad", known[f"{net}-app"], PORT, 200) for net in NETWORKS]
    disturb()
    done = time.monotonic()
    time.sleep(1)
    back = {net: flood.end().answered_after(done) for net, flood in good.items()}
    assert all(len(flood.end().sent) > 200 for flood in bad)
    return back, {net: set(server.end()) - {known[f"{net}-web"]} for net, server in servers.items()}


@pytest.mark.parametrize("how", ["kill", pytest.param("power", marks=pytest.mark.soak)])
def test_nothing_passes_while_a_host_starts_again(lab: Lab, how: str) -> None:
    """Its switch and its controller are killed, or it loses its power."""
    lab.up(INTENT)

    def kill() -> None:
        for role in ("ovs-vswitchd", "ovn-controller"):
            pid = Path(f"/run/netctl/{lab.name}/hv2/{role}.pid").read_text().strip()
            lab.run("hv2", "kill", "-9", pid)
        lab.apply(INTENT)

    def power() -> None:
        netctl("fail", "host", "hv2", "--lab", lab.name)
        netctl("heal", "all", "--lab", lab.name)

    back, passed = watched(lab, {"kill": kill, "power": power}[how])
    assert passed == {net: set() for net in NETWORKS}
    assert all(back.values()), back


def test_nothing_passes_while_vms_move(lab: Lab) -> None:
    """Senders, then the receiver; what is allowed passes when `apply` returns."""
    lab.up(INTENT)
    now = copy.deepcopy(INTENT)

    def move(*names: str) -> Callable[[], None]:
        def apply() -> None:
            for net in NETWORKS:
                for name in names:
                    vm = now["vms"][f"{net}-{name}"]
                    vm["host"] = {"hv1": "hv2", "hv2": "hv1"}[vm["host"]]
            lab.apply(now)

        return apply

    for names in (("bad", "web"), ("app",)):
        back, passed = watched(lab, move(*names))
        assert passed == {net: set() for net in NETWORKS}
        assert all(back.values()), f"{names}: {back}"


def test_the_first_policy_and_the_last(lab: Lab) -> None:
    """Before the first and after the last, everything is open, and there is nothing of policies."""
    bare = copy.deepcopy(INTENT) | {"policies": {}}
    lab.up(bare)
    known = addresses(lab)

    def rows() -> str:
        flows = [
            line
            for bridge in ("br0.local", "br.microseg", "br.nf")
            for line in lab.tool(
                "hv1", "ovs-ofctl", "-OOpenFlow15", "--names", "--no-stats", "dump-flows", bridge
            ).splitlines()
            if "hard_timeout" not in line
        ]
        tables = ("ACL", "Port_Group", "Address_Set", "Meter")
        northbound = [
            lab.tool("_central", "ovn-nbctl", "--bare", "--columns=_uuid", "list", name) for name in tables
        ]
        return "\n".join([*sorted(flows), *northbound])

    before = rows()
    servers = [Server(lab, f"{net}-app", PORT) for net in NETWORKS]
    lab.apply(INTENT)
    assert rows() != before
    lab.apply(bare)
    assert rows() == before
    floods = {net: Flood(lab, f"{net}-bad", known[f"{net}-app"], PORT) for net in NETWORKS}
    time.sleep(1)
    assert {net: flood.end().lost for net, flood in floods.items()} == {net: [] for net in NETWORKS}
    for server in servers:
        server.end()


_SPEAKER = """
import socket, sys, time
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
_, asker = made.recvfrom(64)
while True:
    made.sendto(b"and on", asker)
    time.sleep(0.005)
"""


def test_a_stream_ends_in_which_only_the_one_who_was_asked_still_speaks(lab: Lab) -> None:
    lab.up(INTENT)
    known = addresses(lab)
    speakers, askers = [], {}
    for net in NETWORKS:
        speaker = lab.start(f"{net}-app", sys.executable, "-c", _SPEAKER, str(PORT))
        assert speaker.stdout is not None
        assert speaker.stdout.readline() == "ready\n"
        speakers.append(speaker)

        def ask(net: str = net) -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.settimeout(5)
            made.connect((known[f"{net}-app"], PORT))
            made.send(b"tell me")
            return made

        askers[net] = netns.inside(lab.namespace(f"{net}-web"), ask)
    try:
        for asker in askers.values():
            assert asker.recv(64) == b"and on"
        same = copy.deepcopy(INTENT)
        same["policies"]["app"]["hit_log"] = True
        lab.apply(same)
        for net, asker in askers.items():
            _empty(asker)
            assert asker.recv(64) == b"and on", net
        less = copy.deepcopy(same)
        less["policies"]["app"]["inbound"] = []
        lab.apply(less)
        for net, asker in askers.items():
            _empty(asker)
            asker.settimeout(1)
            with pytest.raises(TimeoutError):
                raise AssertionError(f"{net}: {asker.recv(64)!r}")
    finally:
        for speaker in speakers:
            speaker.kill()
            speaker.communicate()
        for asker in askers.values():
            asker.close()


def _empty(made: socket.socket) -> None:
    """Forget what has come so far."""
    made.setblocking(False)
    try:
        while True:
            made.recv(64)
    except BlockingIOError:
        made.settimeout(5)


def test_a_connection_that_has_ended_meanwhile_need_not_be_forgotten(lab: Lab) -> None:
    from dataplane import connections, engine
    from dataplane.daemons import Runner

    lab.up(INTENT)
    server = Server(lab, "lan-app", PORT)
    flood = Flood(lab, "lan-web", addresses(lab)["lan-app"], PORT, 50)
    time.sleep(0.5)
    runner = Runner(lab.name, engine.find())
    [found] = [one for one in connections.tracked(runner, "hv2") if one.protocol == "udp"]
    assert (found.port, found.number) == ("lan-app/0", PORT)
    flood.end()
    connections.forget(runner, "hv2", [found])
    connections.forget(runner, "hv2", [found])
    assert found not in connections.tracked(runner, "hv2")
    server.end()
