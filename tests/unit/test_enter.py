"""Names as a node sees them, and the environment of its tools; entering itself is in tests/live."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane import enter, store
from netctl.errors import InputError
from netctl.intent import loads

LAB = """
name: names
hosts: {hv1: {}, hv2: {}}
vpcs: {red: {}, blue: {}}
subnets:
  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  app: {type: overlay, vpc: red, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: red, cidr: 192.168.2.0/24}
  far: {type: overlay, vpc: blue, cidr: 192.168.1.0/24}
  flat: {type: vlan, vlan: 11}
vms:
  web1: {host: hv1, nics: [{subnet: web, ip: 10.10.0.11}]}
  both: {host: hv1, nics: [{subnet: app, ip: 192.168.1.20}, {subnet: web, ip: 10.10.0.20}]}
  db1: {host: hv2, nics: [{subnet: db, ip: 192.168.2.10}]}
  three:
    host: hv2
    nics: [{subnet: far, ip: 192.168.1.30}, {subnet: web, ip: 10.10.0.30}, {subnet: app, ip: 192.168.1.31}]
  mute: {host: hv2, nics: [{subnet: flat}]}
  bare: {host: hv2}
physical:
  client: {switch: tor1, ip: 10.99.0.9/24}
  dumb: {switch: tor1}
"""


@pytest.fixture(scope="module")
def names() -> dict[str, dict[str, str]]:
    intent = loads(LAB, supported_only=False)
    return {
        node: enter.names(intent, node)
        for node in (*intent.file.vms, *intent.hosts, *intent.machines, "tor1")
    }


def test_a_vm_goes_by_the_address_on_the_subnet_that_both_are_in(names: dict[str, dict[str, str]]) -> None:
    assert names["web1"]["both"] == "10.10.0.20"
    assert names["both"]["web1"] == "10.10.0.11"
    assert names["web1"]["three"] == "10.10.0.30"


def test_else_by_the_address_in_the_vpc_that_both_are_in(names: dict[str, dict[str, str]]) -> None:
    assert names["db1"]["both"] == "192.168.1.20"
    assert names["db1"]["three"] == "192.168.1.31"


def test_else_by_its_first(names: dict[str, dict[str, str]]) -> None:
    assert names["client"]["both"] == "192.168.1.20"
    assert names["tor1"]["three"] == "192.168.1.30"


def test_each_nic_has_a_name(names: dict[str, dict[str, str]]) -> None:
    for node in ("web1", "client", "hv1", "three"):
        assert [names[node][f"three.{nic}"] for nic in range(3)] == [
            "192.168.1.30",
            "10.10.0.30",
            "192.168.1.31",
        ]


def test_hosts_and_machines_have_names_too(names: dict[str, dict[str, str]]) -> None:
    assert names["hv1"]["hv2"] == "100.64.0.2"
    assert names["web1"]["client"] == "10.99.0.9"


def test_what_has_no_address_has_no_name(names: dict[str, dict[str, str]]) -> None:
    for node in names:
        assert not {"mute", "bare", "dumb"} - {node} & set(names[node])


def test_a_node_is_its_own_loopback(names: dict[str, dict[str, str]]) -> None:
    for node, known in names.items():
        assert known[node] == "127.0.1.1"


def test_environment_of_a_host_points_to_its_own_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    (tmp_path / "shop" / "hv1").mkdir(parents=True)
    tools = {"OVS_BINDIR": "/engine/bin", "OVS_PKGDATADIR": "/engine/share"}
    host = enter.environment("shop", "hv1", tools, "/usr/bin")
    assert host["OVS_RUNDIR"] == host["OVN_RUNDIR"] == f"{tmp_path}/shop/hv1"
    assert host["PATH"] == "/engine/bin:/usr/bin"
    assert host["OVS_PKGDATADIR"] == "/engine/share"
    assert host["OVN_NB_DB"].startswith(f"unix:{tmp_path}/shop/_central/")
    guest = enter.environment("shop", "web1", {}, "/usr/bin")
    assert "OVS_RUNDIR" not in guest and guest["PATH"] == "/usr/bin"
    assert (guest["NETCTL_LAB"], guest["NETCTL_NODE"]) == ("shop", "web1")


def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(InputError, match="there is no network namespace no-such"):
        enter.enter("no-such")
