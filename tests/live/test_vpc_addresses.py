"""DHCP, names and load balancers in VPCs, asked of the guests' own programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import Lab, Ping, netctl, private_lab

INTENT = """
hosts: {hv1: {}, hv2: {}}
subnets:
  internet: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1}
  web: {type: overlay, vpc: red, cidr: 192.168.1.0/24, dhcp: true, dns: [203.0.113.1], domain: red.example,
        mtu: 1400, lease_time: 600, pool: [192.168.1.50-192.168.1.60]}
  bare: {type: overlay, vpc: red, cidr: 192.168.2.0/24}
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24, gateway: 10.10.0.1, dhcp: true,
        dns: [10.10.0.1], domain: lan.example}
  bweb: {type: overlay, vpc: blue, cidr: 192.168.1.0/24, dhcp: true, domain: blue.example}
vpcs:
  red:
    external: [{subnet: internet, gateway_hosts: [hv1, hv2]}]
    routes: [{to: 0.0.0.0/0, via: internet}]
    load_balancers:
      front: {vip: 203.0.113.70, port: 80, backends: [web1:8080, web2:8080], health_check: true}
      sticky: {vip: 10.9.9.9, port: 80, backends: [web1:8080, web2:8080], affinity: true}
  blue: {}
vms:
  web1: {host: hv1, nics: [{subnet: web, ip: dhcp}]}
  web2: {host: hv2, nics: [{subnet: web, ip: dhcp}, {subnet: lan, ip: dhcp}]}
  db1: {host: hv2, nics: [{subnet: bare, ip: 192.168.2.11}]}
  lan1: {host: hv1, nics: [{subnet: lan, ip: 10.10.0.11}]}
  blue1: {host: hv1, nics: [{subnet: bweb, ip: dhcp}]}
physical:
  server: {switch: tor1, vlan: 30, ip: 203.0.113.1/24}
  router: {switch: tor1, vlan: 10, ip: 10.10.0.1/24}
"""

RESOLVER = Path("/etc/resolv.conf")


@pytest.fixture(scope="module")
def intent() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(INTENT)
    return data


@pytest.fixture(scope="module")
def vpcs(intent: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    before = RESOLVER.read_text()
    with private_lab("vpc-", tmp_path_factory.mktemp("vpc")) as lab:
        lab.up(intent)
        yield lab
    assert RESOLVER.read_text() == before
    assert [line for line in processes() if "udhcpc" in line and lab.name in line] == []


def processes() -> list[str]:
    return subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def addresses(lab: Lab, node: str) -> dict[str, dict[str, Any]]:
    """The IPv4 address of each device, with its lifetime."""
    found = json.loads(lab.run(node, "ip", "-4", "-json", "address"))
    return {link["ifname"]: link["addr_info"][0] for link in found if link["ifname"] != "lo"}


def test_guests_get_what_the_subnet_says(vpcs: Lab) -> None:
    [web1] = addresses(vpcs, "web1").values()
    assert (web1["local"], web1["prefixlen"]) == ("192.168.1.50", 24)
    assert 0 < web1["valid_life_time"] <= 600
    assert "default via 192.168.1.1 dev eth0" in vpcs.run("web1", "ip", "route")
    assert "mtu 1400" in vpcs.run("web1", "ip", "link", "show", "eth0")
    both = addresses(vpcs, "web2")
    assert (both["eth0"]["local"], both["eth1"]["local"]) == ("192.168.1.51", "10.10.0.2")
    assert "via 192.168.1.1 dev eth0" in vpcs.run("web2", "ip", "route", "get", "203.0.113.9")


def test_what_the_server_says(vpcs: Lab) -> None:
    """Asked by a second client: every option, as it is on the wire."""
    keys = "ip|mask|router|dns|domain|mtu|lease|serverid"
    script = f"#!/bin/sh\n[ $1 = bound ] && env | grep -E '^({keys})='\nexit 0\n"
    file = vpcs.file.with_name("say.sh")
    file.write_text(script)
    file.chmod(0o755)
    said = vpcs.run("web1", "udhcpc", "-i", "eth0", "-n", "-q", "-O", "mtu", "-s", str(file))
    words = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert words == {
        "ip": "192.168.1.50",
        "mask": "24",
        "router": "192.168.1.1",
        "dns": "203.0.113.1",
        "domain": "red.example",
        "mtu": "1400",
        "lease": "600",
        "serverid": "192.168.1.254",
    }


ASK = "import socket, sys\ntry: print(socket.gethostbyname(sys.argv[1]))\nexcept OSError: print('unknown')\n"


def resolve(lab: Lab, node: str, name: str) -> str:
    """What the node's own resolver makes of a name, with its own resolv.conf."""
    done = netctl("exec", "--lab", lab.name, node, "--", "env", "RES_OPTIONS=timeout:1 attempts:1",
                  "python3", "-c", ASK, name)  # fmt: skip
    return done.out.strip()


def test_names_stay_in_their_vpc(vpcs: Lab) -> None:
    assert resolve(vpcs, "web1", "web2.red.example") == "192.168.1.51"
    assert resolve(vpcs, "db1", "web1.red.example") == "192.168.1.50"
    assert resolve(vpcs, "blue1", "blue1.blue.example") == "192.168.1.2"
    assert resolve(vpcs, "lan1", "web2.lan.example") == "10.10.0.2"
    assert resolve(vpcs, "blue1", "web1.red.example") == "unknown"
    assert resolve(vpcs, "web1", "blue1.blue.example") == "unknown"
    assert resolve(vpcs, "lan1", "web1.red.example") == "unknown"
    assert netctl("exec", "--lab", vpcs.name, "web1", "--", "cat", "/etc/resolv.conf").out.splitlines() == [
        "search red.example",
        "nameserver 203.0.113.1",
    ]
    assert netctl("exec", "--lab", vpcs.name, "lan1", "--", "cat", "/etc/resolv.conf").out.splitlines() == [
        "search lan.example",
        "nameserver 10.10.0.1",
    ]


def test_there_and_back_between_dhcp_and_a_fixed_address(vpcs: Lab, intent: dict[str, Any]) -> None:
    fixed = deepcopy(intent)
    fixed["vms"]["web1"]["nics"][0]["ip"] = "192.168.1.77"
    del fixed["vms"]["web2"]
    for balancer in fixed["vpcs"]["red"]["load_balancers"].values():
        balancer["backends"] = ["web1:8080"]
    beside = Ping(vpcs, "db1", "203.0.113.1")
    vpcs.apply(fixed)
    assert addresses(vpcs, "web1")["eth0"]["local"] == "192.168.1.77"
    assert resolve(vpcs, "db1", "web1.red.example") == "192.168.1.77"
    assert resolve(vpcs, "db1", "web2.red.example") == "unknown"
    assert not any("udhcpc" in line and f"{vpcs.name}/web" in line for line in processes())
    netctl("plan", vpcs.file)
    vpcs.apply(intent)
    assert beside.lost() == 0
    assert addresses(vpcs, "web1")["eth0"]["local"] == "192.168.1.50"
    assert resolve(vpcs, "db1", "web2.red.example") == "192.168.1.51"
    netctl("plan", vpcs.file)


def test_a_client_that_was_killed_is_started_again(vpcs: Lab) -> None:
    pid = Path(f"/run/netctl/{vpcs.name}/web1/dhcp-eth0.pid").read_text().strip()
    subprocess.run(["kill", "-9", pid], check=True)
    assert "DHCP client" in netctl("plan", vpcs.file, code=10).out
    netctl("apply", vpcs.file)
    netctl("plan", vpcs.file)


SERVER = """
import socket
server = socket.create_server(('', 8080), backlog=64)
print('ready', flush=True)
while True:
    connection, _ = server.accept()
    connection.send({name!r}.encode())
    connection.close()
"""

CLIENT = """
import collections, socket, sys
found = collections.Counter()
for _ in range(int(sys.argv[2])):
    try:
        with socket.create_connection((sys.argv[1], 80), timeout=5) as connection:
            found[connection.recv(16).decode()] += 1
    except OSError as error:
        found[type(error).__name__] += 1
print(dict(found))
"""


@contextmanager
def serving(lab: Lab, name: str) -> Iterator[None]:
    """A server in a VM that says its name to whoever connects."""
    process = lab.start(name, "python3", "-c", SERVER.format(name=name))
    assert process.stdout and process.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()


def connect(lab: Lab, node: str, address: str, count: int) -> dict[str, int]:
    found: dict[str, int] = eval(lab.run(node, "python3", "-c", CLIENT, address, str(count)))
    return found


def monitored(lab: Lab) -> list[str]:
    """OVN's opinion of the backends."""
    text = lab.tool(
        "_central", "ovn-sbctl", "--bare", "--columns=logical_port,status", "list", "Service_Monitor"
    )
    return sorted(" ".join(block.split("\n")) for block in text.strip().split("\n\n"))


def until(lab: Lab, *wanted: str) -> None:
    """Wait until OVN thinks so of the backends, told by its own database."""
    for port, status in (words.split() for words in wanted):
        row = lab.tool("_central", "ovn-sbctl", "--bare", "--columns=_uuid", "find", "Service_Monitor",
                       f'logical_port="{port}"').strip()  # fmt: skip
        lab.tool(
            "_central", "ovn-sbctl", "--timeout=40", "wait-until", "Service_Monitor", row, f"status={status}"
        )


def test_balancers_leave_out_the_dead_and_keep_to_their_choice(vpcs: Lab) -> None:
    with serving(vpcs, "web1"):
        with serving(vpcs, "web2"):
            until(vpcs, "web1/0 online", "web2/0 online")
            assert set(connect(vpcs, "server", "203.0.113.70", 40)) == {"web1", "web2"}
            assert set(connect(vpcs, "db1", "203.0.113.70", 40)) == {"web1", "web2"}
            assert len(connect(vpcs, "db1", "10.9.9.9", 20)) == 1
            assert len(connect(vpcs, "web1", "10.9.9.9", 20)) == 1
        until(vpcs, "web1/0 online", "web2/0 offline")
        assert connect(vpcs, "server", "203.0.113.70", 20) == {"web1": 20}
    until(vpcs, "web1/0 offline", "web2/0 offline")
    assert connect(vpcs, "server", "203.0.113.70", 1) == {"ConnectionRefusedError": 1}
