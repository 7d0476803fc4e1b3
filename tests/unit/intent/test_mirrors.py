"""NICs that mirror: no part of any network, with an MTU for whatever passes what they mirror."""

from netctl.intent import dump, loads

TEXT = """
name: lab
hosts: {hv1: {}}
subnets: {lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/30, pool: [10.10.0.1], mtu: 1400}}
vms:
  web: {host: hv1, nics: [{subnet: lan}]}
  ids: {host: hv1, nics: [{mirror: web, link: down}, {mirror: hv1/eth1, rate: 1mbit}]}
"""


def test_what_they_are() -> None:
    intent = loads(TEXT)
    assert [port.name for port in intent.ports] == ["web/0"], "and the one address of the pool is web's"
    assert [(it.name, it.source, it.mtu, it.enabled, it.rate) for it in intent.mirrors] == [
        ("ids/0", "web/0", 1400, False, None),
        ("ids/1", "hv1/eth1", 9000, True, 1_000_000),
    ]
    taps = [nic.tap for nic in (*intent.ports, *intent.mirrors)]
    macs = [nic.mac for nic in (*intent.ports, *intent.mirrors)]
    assert len(set(taps)) == len(set(macs)) == 3


def test_export_pins_them() -> None:
    intent = loads(TEXT)
    again = loads(dump(intent))
    assert again.mirrors == intent.mirrors
    assert all(mirror.mac in dump(intent) for mirror in intent.mirrors)


def test_a_subnet_with_it_is_of_no_account() -> None:
    intent = loads(TEXT.replace("{mirror: web, link: down}", "{subnet: lan, mirror: web}"))
    assert [port.name for port in intent.ports] == ["web/0"]
    assert [warning.message for warning in intent.warnings] == [
        "ids/0 mirrors web: it gets copies and is in no subnet"
    ]
