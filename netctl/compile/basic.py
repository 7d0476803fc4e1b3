"""VLAN basic subnets: no OVN, all flows ours (netctl.model.basic has the picture).

A frame of a VM goes up through br.microseg and br.nf even when its receiver is on the same host: br.nf sends
it back down then. What belongs to the frame on its way:

- its VLAN, in its tag: between bridges every frame has one, so that patch ports may clear everything else;
- the port of br0.local that it came in by, in pkt_mark, which patch ports keep: nothing is sent back to it;
- the NIC that it is from, in pkt_mark's upper half; or for, on the way back where there are policies.

br0.local and br.nf learn MAC addresses as a switch does: from the frames that pass.
"""

from __future__ import annotations

from collections.abc import Callable

from netctl.compile import addressing
from netctl.compile.bridges import add_bridge, add_patch, add_port, add_tap
from netctl.compile.chains import NETWORK_FUNCTIONS, Chaining, compile_chains
from netctl.compile.flows import GROUP_ADDRESS, LINK_LOCAL, TAGGED, UNTAGGED, FlowSet, Pipeline
from netctl.compile.names import Names
from netctl.compile.policies_basic import ALL_OPEN, compile_policies
from netctl.compile.policies_flows import MICROSEG
from netctl.compile.policies_rules import Policing
from netctl.compile.rows import Rows
from netctl.model import addressing as management
from netctl.model import basic, ipv6
from netctl.model.flow import learned_cookie
from netctl.model.functions import detours
from netctl.model.intent import Hypervisor, Intent, Port, UplinkBridge
from netctl.model.state import Ref

MAC_PREFIX = "0a:62"
"""First octets of these bridges' MACs, then the bridge and the host's number; nobody ever talks to them."""

AGEING = 300
"""Seconds after which a MAC address is forgotten that sent nothing (IEEE 802.1D-2004, table 7-5)."""

MOST_LEARNED = 8192
"""MAC addresses that a bridge learns; frames to more of them are flooded. As many as OVS's own default."""

LOCAL = Pipeline(
    {
        "admission": "which NIC a frame is from (reg1) and which VLAN it is on (reg2), and away with its tag",
        "single_tag": "frames that still have a tag had two, and are dropped",
        "security": "senders may use their own addresses only",
        "addressing": "DHCP of managed subnets to the CVM, and copies of ARP (netctl.compile.addressing)",
        "learning": "which NIC a MAC address is behind; then with its tag up to br.microseg",
        "return": "frames from br.microseg: where they came in, their VLAN (reg2), and away with their tag; "
        "those that are for some NICs only (reg4, or reg0)",
        "destination": "the NIC that it is for (reg0), if known",
        "delivery": "to that NIC, if it is on this VLAN",
        "flooding": "to all NICs of the VLAN but the sender's",
        "answers": "frames from the CVM's DHCP servers: to the NICs that they are for",
        "learned": "NIC (reg0) by VLAN and MAC address",
    }
)
"""br0.local."""

HERE, ELSEWHERE = 1, 2

KEEP_TAG = "move:NXM_OF_VLAN_TCI[]->NXM_NX_REG2[0..15]"
PUT_TAG = ("push_vlan:0x8100", "move:NXM_NX_REG2[0..15]->NXM_OF_VLAN_TCI[]")
PRESENT = 0x1000
"""The bit of a TCI that says that there is a tag."""

LOOK_AGAIN = ("encap(nsh)", "decap()")
"""Make OVS parse the frame anew as it is now; nothing else comes of the two.

A decision is cached by the fields that it looked at, and the second tag of a frame that has only one is none
of them: the next frame with the same first tag would go the same way, whatever its second. Parsed anew, a
frame whose first tag was taken away shows whether it had another.
"""

MARK_PORT = "move:NXM_OF_IN_PORT[]->NXM_NX_PKT_MARK[0..15]"
RESTORE_PORT = "move:NXM_NX_PKT_MARK[0..15]->NXM_OF_IN_PORT[]"
TELL_NIC = "move:NXM_NX_REG1[0..15]->NXM_NX_PKT_MARK[16..31]"
CLEAR_MARK = "set_field:0->pkt_mark"
FORGET_PORT = "set_field:0->in_port"
"""Lets a frame leave by the port that it came in by."""


def compile_basic(
    intent: Intent,
    host: Hypervisor,
    policing: Policing,
    chaining: Chaining,
    names: Names,
    datapath: str,
    rows: Rows,
    flows: FlowSet,
) -> tuple[list[Ref], dict[str, Ref]]:
    """The bridges of VLAN basic subnets on a host, with their flows.

    Returns the bridges, and for each uplink bridge the port that it needs for them.
    """
    switches = basic.bridges_of(intent, host)
    functions = compile_chains(intent, host, policing, chaining, flows)
    before_ovn = [port for port in intent.ports_by_host[host.name] if detours(intent, port)]
    if not switches and not functions and not before_ovn:
        return [], {}
    why = f"host {host.name}"
    learned = f"cookie={learned_cookie(intent.name):#x}"
    policed = compile_policies(intent, host, policing, flows)
    chained = {intent.ports[nic].number for nic in chaining.nics}
    microseg: list[Ref] = []
    network_functions: list[Ref] = []
    bridges = [addressing.add_tunnel_bridge(rows, flows, host, datapath)] if switches else []
    subnets = management.subnets_of(intent, host)
    ends: dict[str, Ref] = {}
    for switch in switches:
        name, number, uplink = basic.local(switch), basic.number(switch), switch.bridge
        ports = basic.ports_of(intent, host, switch)

        def patch(end: str, peer: str, trunks: tuple[int, ...] = ()) -> Ref:
            return add_patch(rows, end, peer, why, trunks=trunks)

        taps = [add_tap(rows, port, names) for port in ports]
        first, second = basic.up(name), basic.down(basic.MICROSEG, number)
        tunnels = addressing.add_tunnels(rows, switch, why)
        bridges.append(_bridge(rows, host, name, number, datapath, [*taps, *tunnels, patch(first, second)]))
        microseg.append(patch(second, first))
        first, second = basic.up(basic.MICROSEG, number), basic.down(basic.NETWORK_FUNCTIONS, number)
        microseg.append(patch(first, second))
        network_functions.append(patch(second, first))
        first, second = basic.up(basic.NETWORK_FUNCTIONS, number), basic.down(uplink)
        network_functions.append(patch(first, second))
        ends[uplink] = patch(second, first, _vlans(intent, host, switch))

        enabled = [port for port in ports if port.enabled]
        its = [subnet for subnet in subnets if subnet.bridge == switch]
        _local_flows(intent, switch, enabled, its, policed, learned, flows, why)
        for port in enabled:
            if port.number in chained:
                _known_flows(intent, switch, port, flows)
        if policed is None:
            _open_microseg_flows(number, flows, why)
        _network_function_flows(number, flows, why)
    _shared_flows(learned, flows, why)
    for port in before_ovn:
        about, ends_of = f"vm {port.vm}", (basic.up(port.tap), basic.down(port.tap))
        network_functions.append(add_port(rows, port.tap, about, limited=port.rate is not None))
        network_functions.append(add_patch(rows, *ends_of, about))
    for one in functions:
        about = f"network function {one.function}"
        network_functions += [add_port(rows, one.port(end), about) for end in one.ends]
    if switches:
        bridges.append(_bridge(rows, host, basic.MICROSEG, 0xFE, datapath, microseg))
    bridges.append(_bridge(rows, host, basic.NETWORK_FUNCTIONS, 0xFF, datapath, network_functions))
    return bridges, ends


def _bridge(rows: Rows, host: Hypervisor, name: str, number: int, datapath: str, ports: list[Ref]) -> Ref:
    return add_bridge(
        rows,
        name,
        f"host {host.name}",
        datapath=datapath,
        mac=f"{MAC_PREFIX}:{number:02x}:00:{host.number >> 8:02x}:{host.number & 255:02x}",
        ports=ports,
        fail_mode="secure",
    )


def _vlans(intent: Intent, host: Hypervisor, switch: UplinkBridge) -> tuple[int, ...]:
    """The VLANs that go between an uplink bridge and br.nf: those of the subnets and of the trunks here."""
    vlans = {
        subnet.vlan
        for subnet in intent.file.subnets.values()
        if subnet.type == "vlan-basic" and subnet.switch == switch.switch and subnet.vlan is not None
    }
    vlans.update(vlan for port in basic.ports_of(intent, host, switch) for vlan in port.trunked)
    return tuple(sorted(vlans))


def carried(intent: Intent, port: Port) -> tuple[int, tuple[int, ...]]:
    """The VLAN that a NIC has untagged, and those that it has tagged."""
    native = intent.file.subnets[port.subnet].vlan
    assert native is not None
    return native, tuple(sorted(set(port.trunked) - {native}))


# --- br0.local ---------------------------------------------------------------------------------------------


def _local_flows(
    intent: Intent,
    switch: UplinkBridge,
    ports: list[Port],
    subnets: list[management.Served],
    policed: frozenset[int] | None,
    learned: str,
    flows: FlowSet,
    why: str,
) -> None:
    bridge = basic.local(switch)
    up = basic.up(bridge)

    def add(table: str, priority: int, match: tuple[str, ...], *actions: str, why: str = why) -> None:
        flows.add(bridge, LOCAL[table], priority, match, actions, why)

    add("admission", 300, (f"dl_dst={LINK_LOCAL}",))
    add("admission", 300, (f"dl_src={GROUP_ADDRESS}",))
    add("admission", 200, (f"in_port={up}",), LOCAL.goto("return"))
    add("single_tag", 100, (UNTAGGED,), LOCAL.goto("security"))
    add("addressing", 0, (), LOCAL.goto("learning"))
    add(
        "learning",
        0,
        (),
        f"learn(table={LOCAL['learned']},hard_timeout={AGEING},priority=100,{learned},limit={MOST_LEARNED},"
        "NXM_NX_REG2[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_NX_REG1[]->NXM_NX_REG0[])",
        *PUT_TAG,
        TELL_NIC,
        f"output:{up}",
    )
    add("return", 0, (TAGGED,), RESTORE_PORT, CLEAR_MARK, KEEP_TAG, "pop_vlan", LOCAL.goto("destination"))
    add("destination", 200, (TAGGED,))
    add("destination", 100, (f"dl_dst={GROUP_ADDRESS}",), LOCAL.goto("flooding"))
    add("destination", 0, (), LOCAL.look_up("learned"), LOCAL.goto("delivery"))
    add("delivery", 0, ("reg0=0",), LOCAL.goto("flooding"))

    untagged: dict[int, list[Port]] = {}
    tagged: dict[int, list[Port]] = {}
    for port in ports:
        reason = f"vm {port.vm}"
        native, others = carried(intent, port)
        nic = f"set_field:{port.number:#x}->reg1"
        add(
            "admission",
            100,
            (f"in_port={port.tap}", UNTAGGED),
            nic,
            f"set_field:{PRESENT | native:#x}->reg2",
            MARK_PORT,
            LOCAL.goto("single_tag"),
            why=reason,
        )
        untagged.setdefault(native, []).append(port)
        _deliver(add, port, native, f"output:{port.tap}")
        for vlan in others:
            add(
                "admission",
                100,
                (f"in_port={port.tap}", f"dl_vlan={vlan}"),
                nic,
                KEEP_TAG,
                "pop_vlan",
                MARK_PORT,
                *LOOK_AGAIN,
                LOCAL.goto("single_tag"),
                why=reason,
            )
            tagged.setdefault(vlan, []).append(port)
            _deliver(add, port, vlan, *PUT_TAG, f"output:{port.tap}")
        for priority, match, passes in _security(port, native, bool(others)):
            actions = (LOCAL.goto("addressing"),) if passes else ()
            add("security", priority, (f"reg1={port.number:#x}", *match), *actions, why=reason)
    for vlan in sorted({*untagged, *tagged}):
        out = _flood(untagged.get(vlan, []), tagged.get(vlan, []))
        add("flooding", 100, (addressing.on(vlan),), *out)
    addressing.add_flows(intent, switch, subnets, {*untagged, *tagged}, LOCAL, add)
    if policed is not None:
        _policed_flows(ports, policed, untagged, tagged, add)


def _known_flows(intent: Intent, switch: UplinkBridge, port: Port, flows: FlowSet) -> None:
    """Where a NIC with a chain is need not be learned: a function sends for others."""
    native, others = carried(intent, port)
    here = (f"set_field:{port.number:#x}->reg0", LOCAL.goto("delivery"))
    for vlan in (native, *others):
        match = (addressing.on(vlan), f"dl_dst={port.mac}")
        flows.add(basic.local(switch), LOCAL["destination"], 150, match, here, f"vm {port.vm}")


def _flood(untagged: list[Port], tagged: list[Port]) -> list[str]:
    """The actions that send a frame to these NICs."""
    out = [f"output:{port.tap}" for port in _in_order(untagged)]
    return [*out, *PUT_TAG, *(f"output:{port.tap}" for port in _in_order(tagged))] if tagged else out


def _policed_flows(
    ports: list[Port],
    policed: frozenset[int],
    untagged: dict[int, list[Port]],
    tagged: dict[int, list[Port]],
    add: Callable[..., None],
) -> None:
    """Frames that br.microseg has judged for each NIC apart (netctl.compile.policies_basic)."""
    arrive = (RESTORE_PORT, CLEAR_MARK, KEEP_TAG, "pop_vlan")
    all_open = f"pkt_mark={ALL_OPEN << 16:#x}/0xffff0000"
    add("return", 100, (TAGGED, all_open), *arrive, "set_field:0x1->reg4", LOCAL.goto("destination"))
    for port in ports:
        if port.number not in policed:
            continue
        nic, only = f"{port.number:#x}", f"pkt_mark={port.number << 16:#x}/0xffff0000"
        why = f"vm {port.vm}"
        to = f"set_field:{nic}->reg0"
        add("return", 100, (TAGGED, only), *arrive, to, LOCAL.goto("delivery"), why=why)
        add("delivery", 110, (f"reg0={nic}", "reg4=0x1"), why=why)
    for vlan in sorted({*untagged, *tagged}):
        left = (
            [port for port in found.get(vlan, []) if port.number not in policed]
            for found in (untagged, tagged)
        )
        add("flooding", 110, ("reg4=0x1", addressing.on(vlan)), *_flood(*left))


def _in_order(ports: list[Port]) -> list[Port]:
    return sorted(ports, key=lambda port: port.number)


def _deliver(add: Callable[..., None], port: Port, vlan: int, *actions: str) -> None:
    add("delivery", 100, (f"reg0={port.number:#x}", addressing.on(vlan)), *actions, why=f"vm {port.vm}")


def _security(port: Port, native: int, trunk: bool) -> list[tuple[int, tuple[str, ...], bool]]:
    """What a NIC may send, as priority, match and whether it passes: as port_security of OVN (ovn-nb(5)).

    The address that netctl knows is the one in the native VLAN; on a trunk's others the MAC address counts.
    """
    if not port.port_security:
        return [(100, (), True)]
    source = f"dl_src={port.mac}"
    own = f"arp_sha={port.mac}"
    rules: list[tuple[int, tuple[str, ...], bool]] = [
        (100, (source,), True),
        (110, ("arp",), False),
    ]
    known = port.ip is not None or port.ip6 is not None
    if not known or trunk:
        rules.append((120, ("arp", source, own), True))
    if not known:
        return rules
    on = (addressing.on(native),) if trunk else ()
    rules += [(130, (family, *on), False) for family in ("arp", "ip", "ipv6")]
    if port.ip is not None:
        discover = ("nw_src=0.0.0.0", "nw_dst=255.255.255.255", "tp_src=68", "tp_dst=67")
        rules += [
            (140, ("arp", *on, source, own, f"arp_spa={port.ip}"), True),
            (140, ("ip", *on, source, f"nw_src={port.ip}"), True),
            (140, ("udp", *on, source, *discover), True),
        ]
    if port.ip6 is not None:
        rules += _security6(port, (*on, source))
    return rules


def _security6(port: Port, on: tuple[str, ...]) -> list[tuple[int, tuple[str, ...], bool]]:
    """What a NIC with an IPv6 address may send: from it or from its link-local one, as whom it has.

    No router advertisements and no redirects (RFC 6105): it is no router.
    """
    addresses = (ipv6.autoconfigured(ipv6.LINK_LOCAL, port.mac), port.ip6)
    before_it_has_one = ("ipv6_src=::", "ipv6_dst=ff02::/16")
    found: list[tuple[int, tuple[str, ...], bool]] = [
        (140, ("ipv6", *on, f"ipv6_src={address}"), True) for address in addresses
    ]
    found += [
        (150, ("icmp6", *on, *before_it_has_one, f"icmp_type={kind}"), True)
        for kind in (SOLICIT_ROUTER, *LISTEN)
    ]
    denied = (ADVERTISE_ROUTER, REDIRECT, ADVERTISE, SOLICIT)
    found += [(160, ("icmp6", *on, f"icmp_type={kind}"), False) for kind in denied]
    found += [
        (
            170,
            (
                "icmp6",
                *on,
                f"ipv6_src={source}",
                f"icmp_type={ADVERTISE}",
                "icmp_code=0",
                f"nd_target={target}",
                tll,
            ),
            True,
        )
        for source in addresses
        for target in addresses
        for tll in (f"nd_tll={port.mac}", "nd_tll=00:00:00:00:00:00")
    ]
    found += [
        (170, ("icmp6", *on, f"icmp_type={SOLICIT}", "icmp_code=0", f"ipv6_src={source}", sll), True)
        for source in (*addresses, "::")
        for sll in (f"nd_sll={port.mac}", "nd_sll=00:00:00:00:00:00")
    ]
    return found


SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, ADVERTISE, REDIRECT = range(133, 138)
"""ICMPv6 types of neighbour discovery (RFC 4861)."""
LISTEN = (131, 132, 143)
"""ICMPv6 types that say who listens to which group (RFC 2710, 3810)."""


# --- br.microseg -------------------------------------------------------------------------------------------


def _open_microseg_flows(number: int, flows: FlowSet, why: str) -> None:
    """Without policies everything passes."""
    up, down = basic.up(basic.MICROSEG, number), basic.down(basic.MICROSEG, number)
    for source, target in ((down, up), (up, down)):
        flows.add(
            basic.MICROSEG, MICROSEG["admission"], 0, (f"in_port={source}",), (f"output:{target}",), why
        )


# --- br.nf -------------------------------------------------------------------------------------------------


def _network_function_flows(number: int, flows: FlowSet, why: str) -> None:
    """The flows of one virtual switch."""
    bridge = basic.NETWORK_FUNCTIONS
    up, down = basic.up(bridge, number), basic.down(bridge, number)

    def add(table: str, match: tuple[str, ...], *actions: str) -> None:
        flows.add(bridge, NETWORK_FUNCTIONS[table], 100, match, actions, why)

    # One more than its number: 0 is no virtual switch's.
    switch, on = f"set_field:{number + 1:#x}->reg3", f"reg3={number + 1:#x}"
    back = (FORGET_PORT, NETWORK_FUNCTIONS.look_up("receiver"))
    add("admission", (f"in_port={down}",), switch, NETWORK_FUNCTIONS.goto("sender"))
    bare = (KEEP_TAG, "pop_vlan", *LOOK_AGAIN)
    arrive = (switch, CLEAR_MARK, *bare, NETWORK_FUNCTIONS.goto("arrival"))
    add("admission", (f"in_port={up}", TAGGED), *arrive)
    add("turn", (on, "reg0=0"), *back, CLEAR_MARK, f"output:{up}")
    add("turn", (on, f"reg0={HERE:#x}"), *back)
    add("turn", (on, f"reg0={ELSEWHERE:#x}"), CLEAR_MARK, f"output:{up}")
    add("inward", (on,), NETWORK_FUNCTIONS.goto("receiver"))
    add("receiver", (on,), f"output:{down}")


def _shared_flows(learned: str, flows: FlowSet, why: str) -> None:
    """The flows of all virtual switches."""

    def add(table: str, priority: int, match: tuple[str, ...], *actions: str) -> None:
        flows.add(basic.NETWORK_FUNCTIONS, NETWORK_FUNCTIONS[table], priority, match, actions, why)

    find = NETWORK_FUNCTIONS.look_up("learned")
    add("admission", 300, (f"dl_src={GROUP_ADDRESS}",))
    add("arrival", 100, (UNTAGGED,), *PUT_TAG, NETWORK_FUNCTIONS.goto("down"))
    add("sender", 0, (), NETWORK_FUNCTIONS.goto("up"))
    add("up", 0, (), _learn_where(HERE, learned), find, NETWORK_FUNCTIONS.goto("turn"))
    add("down", 0, (), _learn_where(ELSEWHERE, learned), find, NETWORK_FUNCTIONS.goto("inward"))
    add("inward", 200, (f"reg0={ELSEWHERE:#x}",))


def _learn_where(where: int, learned: str) -> str:
    return (
        f"learn(table={NETWORK_FUNCTIONS['learned']},hard_timeout={AGEING},priority=100,{learned},"
        f"limit={MOST_LEARNED},NXM_NX_REG3[],NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
        f"load:{where:#x}->NXM_NX_REG0[])"
    )
