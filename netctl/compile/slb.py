"""balance-slb: no frame twice (ovs-vswitchd.conf.db(5), Port, bond_mode).

The switches know nothing of a balance-slb bond: to a MAC that they have not learned they send over all of
its uplinks. OVS takes broadcasts and multicasts from the active member alone, but unicasts from every one, so
each of these would arrive as many times as there are uplinks: "Open vSwitch does not solve this problem"
(its documentation, topics/bonding). Flows of ours on the uplink bridge do:

    what one MAC sends to another comes by one uplink; while it does, copies by a living other are dropped

That uplink is the first by which a frame came, until none has for `WINDOW` seconds. The switches find another
way when the receiver speaks for the first time, or when OVS moves it to another uplink, as it may every 10 s.
So while it answers the sender every uplink is right: its own frames have shown the switches where it is, and
they send by one only.

What is left: a switch that has forgotten, or never heard, a MAC that answered within the window. Its copies
arrive until the switch has learned from the next frame of that MAC, or the window is over.

The rest is OVS's own switching (NORMAL).
"""

from __future__ import annotations

from netctl.compile.flows import GROUP_ADDRESS, FlowSet
from netctl.model.flow import learned_cookie
from netctl.model.intent import Hypervisor, UplinkBridge

WINDOW, MOST_PAIRS = 1, 8192
"""Seconds that a pair of MACs is remembered after its last frame, and how many pairs are.

OVS looks once in half a second which time is over, so it is up to two.
"""

ADMISSION, ANSWERS, WAYS, CHOICE, OTHER, TAKE = range(6)
"""The tables. ANSWERS and WAYS hold by VLAN and both MACs what was learned: they set the last registers."""

CAME, LIVE, ANSWERED, FIRST = (f"reg{number}" for number in range(4))
"""The registers: uplink that a frame came by, counted from 1; an uplink that is live; whether the receiver
answers the sender; the pair's uplink."""

_NOBODY = 0xFFFF


def balances(bridge: UplinkBridge) -> bool:
    """Whether an uplink bridge has a balance-slb bond, so needs these flows."""
    return bridge.mode == "balance-slb" and len(bridge.uplinks) > 1


def compile_flows(owner: str, host: Hypervisor, flows: FlowSet) -> None:
    """The flows of a host's uplink bridges with balance-slb."""
    why = f"host {host.name}"
    back = "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],NXM_OF_ETH_SRC[]=NXM_OF_ETH_DST[]"
    answers = _learn(owner, ANSWERS, back, f"load:0x1->{_wide(ANSWERED)}[]")
    here = "NXM_OF_ETH_SRC[],NXM_OF_ETH_DST[]"
    comes_by = _learn(owner, WAYS, here, f"load:{_wide(CAME)}[]->{_wide(FIRST)}[]")
    take = (f"resubmit(,{TAKE})",)
    for bridge in filter(balances, host.bridges):
        name = bridge.bridge
        flows.add(name, ADMISSION, 15, (f"dl_dst={GROUP_ADDRESS}",), ("NORMAL",), why)
        flows.add(name, ADMISSION, 0, (), (answers, "NORMAL"), why)
        for table in (ANSWERS, WAYS, OTHER):
            flows.add(name, table, 0, (), (), why)
        flows.add(name, CHOICE, 30, (f"{ANSWERED}=0x1",), take, why)
        flows.add(name, CHOICE, 20, (f"{FIRST}=0",), take, why)
        flows.add(name, OTHER, 10, (f"{LIVE}={_NOBODY:#x}",), take, why)
        flows.add(name, TAKE, 0, (), (comes_by, "NORMAL"), why)
        for number, uplink in enumerate(bridge.uplinks, 1):
            came, first = f"{CAME}={number:#x}", f"{FIRST}={number:#x}"
            set_came = f"set_field:{number:#x}->{CAME}"
            asked = tuple(f"resubmit(,{table})" for table in (ANSWERS, WAYS, CHOICE))
            flows.add(name, ADMISSION, 10, (f"in_port={uplink}",), (set_came, *asked), why)
            flows.add(name, CHOICE, 20, (came, first), take, why)
            live = f"bundle_load(eth_src,0,active_backup,ofport,{_wide(LIVE)}[0..15],members:{uplink})"
            flows.add(name, CHOICE, 10, (first,), (live, f"resubmit(,{OTHER})"), why)


def _learn(owner: str, table: int, pair: str, load: str) -> str:
    """The action that remembers something of a pair of MACs in a VLAN."""
    return (
        f"learn(table={table},hard_timeout={WINDOW},priority=10,cookie={learned_cookie(owner):#x},"
        f"limit={MOST_PAIRS},NXM_OF_VLAN_TCI[0..11],{pair},{load})"
    )


def _wide(register: str) -> str:
    """A register as actions name it: NXM_NX_REG3 for reg3."""
    return f"NXM_NX_{register.upper()}"
