"""`netctl policy test` on files, and what `policy suggest` makes of hits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netctl.cli.app import run
from netctl.cli.hits import Entry
from netctl.cli.suggestion import suggestion, whole
from netctl.intent import load
from netctl.model.policy import IntraServices

FILE = Path(__file__).parents[3] / "topologies/microseg.yaml"


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(["policy", "test", str(FILE), *words]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_the_deciding_rule_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--from", "web-vlan", "--to", "app-vlan", "--protocol", "tcp", "--port", "8080")
    assert text.startswith("allowed by policy app inbound 0 (microseg.yaml:")
    line = int(text.partition(".yaml:")[2].partition(")")[0])
    assert "services: [app-port]" in FILE.read_text().splitlines()[line - 1]
    assert "dropped by policy app inbound" in said(capsys, "--from", "web-vlan", "--to", "app-vlan")
    assert "dropped by policy prod-dev" in said(capsys, "--from", "dev-vlan", "--to", "app-vlan")


def test_what_is_only_monitored_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--from", "db-vlan", "--to", "web-vlan", "--protocol", "udp", "--port", "53")
    assert "allowed: no policy has a say" in text
    assert "would be stopped by policy watch inbound" in text


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(
        said(capsys, "--from", "10.10.0.99", "--to", "app-vlan", "--protocol", "udp", "--port", "9", "--json")
    )
    assert (data["from"], data["source"], data["to"]) == (None, "10.10.0.99", "app-vlan/0")
    assert (data["outcome"], data["at"], data["rule"]["policy"]) == ("dropped", "app-vlan/0", "app")


def test_addresses_are_their_vms(capsys: pytest.CaptureFixture[str]) -> None:
    intent = load(FILE)
    address = str(intent.port("web-vlan").ip)
    words = ("--to", "app-vlan", "--protocol", "tcp", "--port", "8080")
    assert said(capsys, "--from", "web-vlan", *words) == said(capsys, "--from", address, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "nobody", "--to", "app-vlan"), "there is no VM, VM/NIC or address nobody"),
        (("--from", "1.1.1.1", "--to", "2.2.2.2"), "neither end is one"),
        (("--from", "2001:db8::1", "--to", "app-vlan"), "do not go together"),
        (("--from", "web-vlan", "--to", "app-vlan", "--protocol", "icmp6"), "has no IPv6 address"),
        (("--from", "app-vlan", "--to", "app-vlan"), "is both ends"),
        (("--from", "app-vlan", "--to", "db-vlan", "--protocol", "tcp"), "tcp needs a port"),
        (("--from", "app-vlan", "--to", "db-vlan", "--lab", "x"), "both given"),
    ],
)
def test_bad_questions(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert message in said(capsys, *words, code=2)


def entry(direction: str, source: str, target: str, protocol: str, number: int | None, **more: Any) -> Entry:
    return Entry(
        time=0.0,
        host="hv1",
        policy="watch",
        rule=more.get("rule", direction),
        line=1,
        outcome="would be dropped",
        direction=direction,
        source=source,
        target=target,
        addresses=more.get("addresses", ("10.0.0.1", "10.0.0.2")),
        protocol=protocol,
        source_port=None,
        number=number,
    )


def test_what_is_suggested() -> None:
    intent = load(FILE)
    policy = intent.file.policies["watch"]
    found = [
        entry("inbound", "db-vlan/0", "web-vlan/0", "udp", 53),
        entry("inbound", "db2-vlan/0", "web-vlan/0", "tcp", 80),
        entry("inbound", "", "web-vlan/0", "icmp", 8, addresses=("198.51.100.7", "10.10.0.6")),
        entry("outbound", "web-vlan/0", "app-vlan/0", "tcp", 22),
        entry("inbound", "dev-vlan/0", "web-vlan/0", "tcp", 7),
        entry("outbound", "web-vlan/0", "dev-vlan/0", "tcp", 7, rule="intra_group"),
    ]
    assert suggestion(intent, policy, found) == {
        "inbound": [
            {"from": "198.51.100.7/32", "services": ["icmp/8"]},
            {"from": {"Env": "prod", "Tier": "db"}, "services": ["tcp/80", "udp/53"]},
        ],
        "outbound": [{"to": {"Env": "prod", "Tier": "app"}, "services": ["tcp/22"]}],
        "intra_group": {"services": ["tcp/7"]},
    }
    assert suggestion(intent, policy, []) == {}


def test_what_is_suggested_takes_the_place_of_what_is_there() -> None:
    """Whole keys, and every service where a protocol is none that services know."""
    intent = load(FILE)
    policy = intent.file.policies["app"]
    found = [entry("inbound", "dev-vlan/0", "app-vlan/0", "protocol 47", None)]
    added = suggestion(intent, policy, found)
    assert added == {"inbound": [{"from": {"Env": "dev", "Tier": "web"}}]}
    assert whole(policy, added) == {
        "inbound": [
            {"from": {"Tier": "web"}, "services": ["app-port"]},
            {"from": {"Tier": "ops"}, "services": ["icmp"]},
            {"from": {"Env": "dev", "Tier": "web"}},
        ]
    }
    shared = policy.model_copy(update={"intra_group": IntraServices(services=["tcp/1"])})
    inside = [entry("inbound", "app-vlan/0", "app-vlan/0", "tcp", 2, rule="intra_group")]
    assert suggestion(intent, shared, inside) == {"intra_group": {"services": ["tcp/1", "tcp/2"]}}
