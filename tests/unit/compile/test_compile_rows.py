"""What holds for every compiled state, whatever the intent."""

from __future__ import annotations

import random
from pathlib import Path
from time import perf_counter, process_time

import pytest
import yaml

from netctl.compile import compile_intent
from netctl.compile.routers import ROUTER_PREFIX, router_mac
from netctl.drivers.tables import NORTHBOUND, OPEN_VSWITCH
from netctl.intent import load, loads
from netctl.model.devices import MAX_LENGTH
from netctl.model.state import OWNER_KEY, WHY_KEY, Ref, Row, State

CASES = sorted((Path(__file__).parents[2] / "golden/compile").glob("*.yaml"))
SOUTHBOUND = "unix:/run/sb.sock"


@pytest.fixture(params=CASES, ids=lambda file: file.stem)
def state(request: pytest.FixtureRequest) -> State:
    return compile_intent(load(request.param), SOUTHBOUND)


def all_rows(state: State) -> list[Row]:
    return [row for _, database in state.databases() for row in database.values()]


def test_references_lead_somewhere(state: State) -> None:
    for _, database in state.databases():
        for row in database.values():
            for value in row.columns.values():
                for member in value if isinstance(value, tuple) else (value,):
                    if isinstance(member, Ref):
                        assert (member.table, member.name) in database, f"{row.name} refers to {member}"


ROOTS = {
    "Logical_Switch",
    "Logical_Router",
    "Open_vSwitch",
    "NB_Global",
    "Load_Balancer",
    "Port_Group",
    "Address_Set",
    "Meter",
    "DHCP_Options",
    "DNS",
    "QoS",
}

WEAK = {
    "dhcpv4_options",
    "dhcpv6_options",
    "dns_records",
    "gateway_port",
    "load_balancer",
    "qos",
    ("Mirror", "output_port"),
    ("Mirror", "select_dst_port"),
    ("Mirror", "select_src_port"),
    ("Port_Group", "ports"),
}
"""Columns that refer to a row without keeping it alive (the schema's refType)."""


def test_every_row_but_the_roots_belongs_to_exactly_one(state: State) -> None:
    for name, database in state.databases():
        members = [
            member
            for row in database.values()
            for column, value in row.columns.items()
            if isinstance(value, tuple) and column not in WEAK and (row.table, column) not in WEAK
            for member in value
            if isinstance(member, Ref)
        ]
        assert len(members) == len(set(members)), name
        assert {(ref.table, ref.name) for ref in members} == {key for key in database if key[0] not in ROOTS}


def test_sets_are_sorted_and_defaults_left_out(state: State) -> None:
    for row in all_rows(state):
        for column, value in row.columns.items():
            assert value not in ((), {}, "", None), (row.name, column)
            if isinstance(value, tuple):
                assert list(value) == sorted(value), (row.name, column)


def test_drivers_know_every_column_and_key(state: State) -> None:
    """Whatever compile wants must be read and written, or no plan would ever become empty."""
    tables = {**NORTHBOUND.tables, **OPEN_VSWITCH.tables}
    for row in all_rows(state):
        table = tables[row.table]
        for column, value in row.columns.items():
            if isinstance(value, dict) and column not in table.columns:
                assert set(value) <= set(table.keys[column]), (row.table, column)
            else:
                assert column in table.columns, (row.table, column)


def test_rows_say_whose_and_for_what_they_are(state: State) -> None:
    for row in all_rows(state):
        assert row.why
        if row.name != ".":
            marks = row.columns["external_ids"]
            assert isinstance(marks, dict)
            assert marks[OWNER_KEY] == state.owner
            assert marks[WHY_KEY] == row.why


def test_devices_have_names_that_linux_takes(state: State) -> None:
    for node in state.nodes.values():
        names = [name for table, name in node if table == "Interface"]
        assert all(0 < len(name) <= MAX_LENGTH for name in names), names


def test_ports_of_switches_and_routers_share_no_name(state: State) -> None:
    names = [name for table, name in state.northbound if table.endswith("_Port")]
    assert len(names) == len(set(names))


def test_no_vlan_of_a_physical_network_is_on_two_switches(state: State) -> None:
    vlans = [
        (row.columns["options"]["network_name"], row.columns["tag"])  # type: ignore[index, call-overload]
        for row in state.northbound.values()
        if row.columns.get("type") == "localnet"
    ]
    assert len(vlans) == len(set(vlans))


def test_a_prefix_is_on_every_name_that_labs_could_share() -> None:
    intent = load(CASES[0].parent / "first-lab.yaml")
    state = compile_intent(intent, SOUTHBOUND, prefix="first-lab.")
    assert all(name.startswith("first-lab.") for _, name in state.northbound)
    taps = [row for (table, _), row in state.nodes["hv1"].items() if table == "Interface"]
    ids = [row.columns["external_ids"].get("iface-id") for row in taps]  # type: ignore[union-attr]
    assert {one for one in ids if one} == {"first-lab.web1/0", "first-lab.app1/0"}
    settings = state.nodes["hv1"]["Open_vSwitch", "."].columns["external_ids"]
    assert isinstance(settings, dict)
    assert settings["system-id"] == "first-lab.hv1"


def test_the_datapath_type_is_one_setting() -> None:
    intent = load(CASES[0].parent / "first-lab.yaml")
    system = compile_intent(intent, SOUTHBOUND, datapath="system").text()
    assert "netdev" not in system
    assert compile_intent(intent, SOUTHBOUND).text().replace("netdev", "system") == system


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_file_does_not_matter(file: Path, seed: int) -> None:
    data = yaml.safe_load(file.read_text())
    shuffled = yaml.safe_dump(_shuffled(data, random.Random(seed)), sort_keys=False)
    expected = compile_intent(load(file), SOUTHBOUND)
    state = compile_intent(loads(shuffled, "shuffled.yaml"), SOUTHBOUND)
    assert state.text() == expected.text()
    assert [list(database) for _, database in state.databases()] == [
        list(database) for _, database in expected.databases()
    ]


def _shuffled(data: object, dice: random.Random) -> object:
    """The same with the keys of all mappings in another order; ToRs stay, as NICs go to the first two."""
    if isinstance(data, dict):
        keys = list(data)
        dice.shuffle(keys)
        return {
            key: data[key] if key == "switches" and "nics" not in data else _shuffled(data[key], dice)
            for key in keys
        }
    return data


def test_router_macs_are_locally_administered_unicast() -> None:
    from ipaddress import IPv4Address

    assert router_mac(IPv4Address("192.168.1.1")) == "0a:58:c0:a8:01:01"
    first = int(ROUTER_PREFIX[:2], 16)
    assert first & 2
    assert not first & 1


def big(hosts: int) -> str:
    """10,016 NICs for every 32 hosts, in 200 subnets and 20 VPCs."""
    subnets = {
        f"s{n}": {"type": "overlay", "vpc": f"v{n % 20}", "cidr": f"10.{n}.0.0/16"}
        if n % 2
        else {"type": "vlan", "vlan": n + 1, "cidr": f"10.{n}.0.0/16"}
        for n in range(200)
    }
    names = [f"hv{n}" for n in range(hosts)]
    return yaml.dump(
        {
            "name": "big",
            "hosts": {name: {} for name in names},
            "clusters": {f"c{n}": {"hosts": names[n::2]} for n in range(2)},
            "vpcs": {f"v{n}": {} for n in range(20)},
            "subnets": subnets,
            "vms": {
                f"vm{n}": {"host": f"hv{n % hosts}", "nics": [{"subnet": f"s{n % 200}"}]}
                for n in range(313 * hosts)
            },
        },
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
    )


@pytest.mark.slow
def test_speed() -> None:
    """10,000 NICs in at most 2 s, and twice as many in about twice the time."""
    took = []
    for hosts in (32, 64):
        intent = loads(big(hosts), "big.yaml")
        best = float("inf")
        for _ in range(3):
            start, wall = process_time(), perf_counter()
            compile_intent(intent, SOUTHBOUND)
            best = min(best, process_time() - start)
            assert perf_counter() - wall < 20
        took.append(best)
    assert took[0] <= 2.0
    assert (
        took[1] <= 3.0 * took[0]
    )  # 2.2 is what the benchmark holds; a test must not fail for a busy machine
