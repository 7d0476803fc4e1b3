"""balance-slb: no frame twice (ovs-vswitchd.conf.db(5), Port, bond_mode).

The switches know nothing of a balance-slb bond: to a MAC that they have not learned they send over all of
its uplinks. OVS takes broadcasts and multicasts from the active member alone, but unicasts from every one, so
each of these would arrive as many times as there are uplinks. Flows of ours on the uplink bridge keep one:

    a MAC that this host sent from within the time that switches remember it    whichever uplink it comes by
    any other                                                                   the first uplink that is live

The rest is OVS's own switching (NORMAL).
"""

from __future__ import annotations

from netctl.compile.flows import GROUP_ADDRESS, FlowSet
from netctl.model.flow import learned_cookie
from netctl.model.intent import Hypervisor, UplinkBridge

AGING, MOST_ADDRESSES = 300, 8192
"""Seconds that a MAC is remembered after its last frame, as on switches; and how many are."""

ADMISSION, SENDERS, CHOICE, FIRST = range(4)
"""The tables. SENDERS holds by VLAN and MAC who sent from here; it sets KNOWN."""

KNOWN, BEFORE = "reg0", "reg1"
"""The registers: the receiver is known to have sent from here; an uplink that is live and comes first."""

_NOBODY = 0xFFFF


def balances(bridge: UplinkBridge) -> bool:
    """Whether an uplink bridge has a balance-slb bond, so needs these flows."""
    return bridge.mode == "balance-slb" and len(bridge.uplinks) > 1


def compile_flows(owner: str, host: Hypervisor, flows: FlowSet) -> None:
    """The flows of a host's uplink bridges with balance-slb."""
    why = f"host {host.name}"
    for bridge in filter(balances, host.bridges):
        name = bridge.bridge
        learn = (
            f"learn(table={SENDERS},hard_timeout={AGING},priority=10,cookie={learned_cookie(owner):#x},"
            f"limit={MOST_ADDRESSES},NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
            f"load:0x1->NXM_NX_REG0[])"
        )
        flows.add(name, ADMISSION, 0, (), (learn, "NORMAL"), why)
        flows.add(name, SENDERS, 0, (), (), why)
        flows.add(name, CHOICE, 20, (f"{KNOWN}=0x1",), ("NORMAL",), why)
        flows.add(name, FIRST, 10, (f"{BEFORE}={_NOBODY:#x}",), ("NORMAL",), why)
        flows.add(name, FIRST, 0, (), (), why)
        for index, uplink in enumerate(bridge.uplinks):
            come = f"in_port={uplink}"
            flows.add(name, ADMISSION, 20, (come, f"dl_dst={GROUP_ADDRESS}"), ("NORMAL",), why)
            asked = (f"resubmit(,{SENDERS})", f"resubmit(,{CHOICE})")
            flows.add(name, ADMISSION, 10, (come,), asked, why)
            if index == 0:
                flows.add(name, CHOICE, 10, (come,), ("NORMAL",), why)
                continue
            earlier = ",".join(bridge.uplinks[:index])
            live = f"bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG1[0..15],members:{earlier})"
            flows.add(name, CHOICE, 10, (come,), (live, f"resubmit(,{FIRST})"), why)
