"""Service chains: the flows of br.nf that string network functions together (ovs-actions(7)).

A chain is at one end of a connection: at the NIC that the rule with the chain secures, or that has the chain
itself or by its subnet. Where both ends have the same one by themselves it is at the receiver's, behind both
ends' policies.

    frame of a NIC ----> whose connection? ----> which chain? ----> next function ----> passed: on, up or down
                              ^                                         |
                              +------- NIC, by MAC address <--- [ function VM ]

What comes back from a function is a new frame to the switch. Whose it is, its MAC addresses tell; which
connection's and which way, a conntrack zone of the NIC's own in br.nf; the chain, the policies' rules, which
are asked again for each frame; and how far it has come, the port that it comes in by. So a function can put
nothing into the network but what belongs to a connection that passes it, in the direction that it passes it.

The rules here enforce nothing: what they deny passes by the functions, to be dropped by whoever enforces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from netctl.compile.flows import GROUP_ADDRESS, TAGGED, UNTAGGED, FlowSet, Pipeline
from netctl.compile.policies_basic import NEIGHBOURS, ZONES, zones
from netctl.compile.policies_flows import DIRECTIONS, Place, compile_rules
from netctl.compile.policies_rules import Band, Policing, Rule, rules_of
from netctl.model import basic
from netctl.model.chain import ServiceChain
from netctl.model.functions import (
    PROBE_ID,
    PROBE_MAC,
    End,
    Instance,
    detours,
    instances,
    number,
    own_chain,
)
from netctl.model.intent import Hypervisor, Intent, Port

FIRST_ZONE = 60000 - ZONES
"""Conntrack zones of br.nf, below br.microseg's."""

NETWORK_FUNCTIONS = Pipeline(
    {
        "admission": "of which virtual switch a frame is (reg3), and whether it goes up or down; or of which "
        "function (reg8)",
        "arrival": "frames from the uplinks that had two tags are dropped",
        "returned": "frames from functions: of which NIC they are (reg1), up or down (reg5)",
        "sender": "what goes up: the NIC that it is from (reg1), if a chain may be for it",
        "direction": "who began the connection (reg2=1: the NIC), and whether this is an answer (reg4=2)",
        "quarantine": "quarantine and isolation policies: only to know what passes",
        "policies": "shared-service and application policies: the chain (reg6) of the rule that allows",
        "own": "the chain that the NIC has by itself or by its subnet",
        "there": "none, where the receiver has the same one",
        "commitment": "new connections are remembered",
        "position": "how many functions it has passed (reg7)",
        "bare": "functions get it as the NIC has it",
        "chain": "copies to taps, and on to the next inline function",
        "around": "which functions are dead (reg10=1)",
        "dead": "around a dead function",
        "passed": "on, up or down",
        "up": "learns that the sender is here; looks for the receiver",
        "turn": "to a receiver on this host back down, else on to the uplinks; both where nobody knows",
        "down": "learns that the sender is elsewhere; looks for the receiver",
        "inward": "on to the receiver, unless it is elsewhere too",
        "receiver": "the NIC that it is for (reg1), if a chain may be for it; else down to br.microseg",
        "learned": "here (reg0=1) or elsewhere (reg0=2) by virtual switch, VLAN and MAC address",
    }
)
"""br.nf."""

UP, DOWN = "reg5=0x1", "reg5=0x2"
ASKED, ANSWERED = "reg4=0x1", "reg4=0x2"
_KNOWN = "ct_mark=0x1"
"""Of a connection that was seen before it came to a function. `+new` says less: it stays until an answer."""

OUTBOUND, INBOUND = DIRECTIONS["outbound"], DIRECTIONS["inbound"]
_FAMILIES = ("ip", "ipv6")
_ZONE = "NXM_NX_REG9[0..15]"
_TRACK = f"ct(table={NETWORK_FUNCTIONS['direction']},zone={_ZONE})"
_BRIDGE = basic.NETWORK_FUNCTIONS


@dataclass(frozen=True)
class Chaining:
    """Who has which chain: `own` by NIC, `rules` in the order in which they come first."""

    own: Mapping[int, str]
    rules: Sequence[tuple[Rule, str]]

    @classmethod
    def of(cls, intent: Intent, policing: Policing) -> Chaining:
        """The chains of an intent."""
        if not intent.file.service_chains:
            return cls({}, ())
        own = {}
        for nic, port in enumerate(intent.ports):
            chain = own_chain(intent, port)
            if chain is not None:
                own[nic] = chain
        found = [(rule, chain) for rule in policing.rules if (chain := chain_of(intent, rule)) is not None]
        return cls(own, sorted(found, key=lambda one: tuple(map(str, one[0].path))))

    @cached_property
    def nics(self) -> frozenset[int]:
        """The NICs at which a chain may be."""
        return frozenset(self.own).union(*(rule.group.nics for rule, _ in self.rules))

    def at(self, nic: int) -> set[str]:
        """The chains that may be at a NIC."""
        found = {chain for rule, chain in self.rules if nic in rule.group.nics}
        return found | ({self.own[nic]} if nic in self.own else set())


def chain_of(intent: Intent, rule: Rule) -> str | None:
    """The chain of what a rule lets pass: its own, else its policy's. It is at the end that is secured."""
    if rule.outcome != "allow":
        return None
    policy = intent.file.policies[rule.policy]
    if rule.path[2:] == ("intra_group",):
        # Both ends are: the receiver's.
        return policy.chain if rule.direction == "inbound" else None
    _, _, direction, index = rule.path
    if rule.direction != direction:
        return None
    return rules_of(policy, rule.direction)[int(index)].chain or policy.chain


def compile_chains(
    intent: Intent, host: Hypervisor, policing: Policing, chaining: Chaining, flows: FlowSet
) -> list[Instance]:
    """The flows of the chains on a host; returns the instances that hang in its br.nf."""
    here = [instance for instance in instances(intent) if instance.host == host.name]
    for one in here:
        _admitted(one, flows)
    for port in intent.ports_by_host[host.name]:
        if detours(intent, port):
            _by_the_way(port, flows)
    nics = sorted(nic for nic in chaining.nics if intent.ports[nic].host == host.name)
    if nics:
        functions = {one.function: one for one in here}
        _Compiler(intent, host, policing, chaining, nics, functions, flows).compile()
    return here


def _admitted(instance: Instance, flows: FlowSet) -> None:
    """What comes out of a function. A tap gets copies and has nothing to say."""
    if instance.definition.mode == "tap":
        return
    function = f"set_field:{number('function', instance.function)}->reg8"
    ends: tuple[tuple[End, str], ...] = (("out", ASKED), ("in", ANSWERED))
    for end, way in ends:
        flows.add(
            _BRIDGE,
            NETWORK_FUNCTIONS["admission"],
            100,
            (f"in_port={instance.port(end)}",),
            (function, _set(way), NETWORK_FUNCTIONS.goto("returned")),
            f"network function {instance.function}",
        )
    # What is sent to see whether it lives: to who sent it, and nowhere else.
    flows.add(
        _BRIDGE,
        NETWORK_FUNCTIONS["admission"],
        250,
        (f"in_port={instance.port('out')}", f"dl_src={PROBE_MAC}"),
        (f"controller(id={PROBE_ID},userdata=00)",),
        f"network function {instance.function}",
    )


def _by_the_way(port: Port, flows: FlowSet) -> None:
    """A NIC before OVN: what no chain is for goes to and fro."""
    for source, target in ((port.tap, basic.up(port.tap)), (basic.up(port.tap), port.tap)):
        match, out = (f"in_port={source}",), (f"output:{target}",)
        flows.add(_BRIDGE, NETWORK_FUNCTIONS["admission"], 50, match, out, f"vm {port.vm}")


@dataclass
class _Compiler:
    intent: Intent
    host: Hypervisor
    policing: Policing
    chaining: Chaining
    nics: Sequence[int]
    functions: Mapping[str, Instance]
    flows: FlowSet

    def __post_init__(self) -> None:
        self.ports = [self.intent.ports[nic] for nic in self.nics]
        self.zone_of = zones(self.ports, FIRST_ZONE)
        self.chains = {chain for nic in self.nics for chain in self.chaining.at(nic)}

    def compile(self) -> None:
        """All flows."""
        for port in self.ports:
            if basic.is_basic(self.intent, port):
                self._entered(port)
                self._passed(port)
            else:
                self._before_ovn(port)
            self._returned(port)
        self._direction()
        self._choice()
        for name in sorted(self.chains):
            self._chain(name, self.intent.file.service_chains[name])

    def add(self, table: str, priority: int, match: Iterable[str], *actions: str, why: str = "") -> None:
        """Add a flow to a table of br.nf."""
        self.flows.add(
            _BRIDGE, NETWORK_FUNCTIONS[table], priority, match, actions, why or f"host {self.host.name}"
        )

    # --- the NIC that a frame is of

    def _switch(self, port: Port) -> int:
        """The number of a NIC's virtual switch."""
        return int(self.intent.file.subnets[port.subnet].switch[2:])

    def _at(self, port: Port, way: str) -> tuple[str, ...]:
        return (
            f"set_field:{port.number:#x}->reg1",
            _set(way),
            f"set_field:{self.zone_of[port.number]:#x}->reg9",
        )

    def _judge(
        self, table: str, match: tuple[str, ...], past: str, at: tuple[str, ...], why: str, many: bool = True
    ) -> None:
        """Unicast of a NIC is judged; all else goes past: what is for many, and who looks for neighbours."""
        if many:
            self.add(table, 190, (*match, f"dl_dst={GROUP_ADDRESS}"), past, why=why)
        for kind in NEIGHBOURS:
            self.add(table, 180, (*match, "icmp6", f"icmp_type={kind}"), past, why=why)
        for family in _FAMILIES:
            self.add(table, 170, (*match, family), *at, _TRACK, why=why)

    def _entered(self, port: Port) -> None:
        """A VLAN basic NIC: what it sends has its number, and what is for it its MAC address."""
        why = f"vm {port.vm}"
        on = f"reg3={self._switch(port) + 1:#x}"
        sent = (on, f"pkt_mark={port.number << 16:#x}/0xffff0000")
        self._judge("sender", sent, NETWORK_FUNCTIONS.goto("up"), self._at(port, UP), why)
        afresh = tuple(f"set_field:0->reg{register}" for register in (4, 6, 7, 8, 10))
        down = f"output:{basic.down(_BRIDGE, self._switch(port))}"
        for vlan in sorted({*port.trunked, self._native(port)}):
            there = (on, f"dl_vlan={vlan}", f"dl_dst={port.mac}")
            self._judge("receiver", there, down, (*afresh, *self._at(port, DOWN)), why, many=False)
            # That it is here is known, whatever was learned.
            goto = NETWORK_FUNCTIONS.goto("receiver")
            self.add("turn", 110, there, "set_field:0->in_port", goto, why=why)
            self.add("inward", 210, there, goto, why=why)

    def _before_ovn(self, port: Port) -> None:
        """A NIC whose frames come to OVN through br.nf."""
        why = f"vm {port.vm}"
        tap, network = port.tap, basic.up(port.tap)
        for source, target, travel in ((tap, network, UP), (network, tap, DOWN)):
            on, nic = f"in_port={source}", f"reg1={port.number:#x}"
            self._judge("admission", (on,), f"output:{target}", self._at(port, travel), why)
            self.add("passed", 100, (nic, travel), f"output:{target}", why=why)

    def _native(self, port: Port) -> int:
        vlan = self.intent.file.subnets[port.subnet].vlan
        assert vlan is not None
        return vlan

    def _returned(self, port: Port) -> None:
        """Who receives comes first: where both ends have the chain, it is at the receiver's."""
        on = f"set_field:{self._switch(port) + 1:#x}->reg3"
        for way, side, priority, travel in (
            (ASKED, "dl_dst", 200, DOWN),
            (ASKED, "dl_src", 100, UP),
            (ANSWERED, "dl_src", 200, UP),
            (ANSWERED, "dl_dst", 100, DOWN),
        ):
            for family in _FAMILIES:
                self.add(
                    "returned",
                    priority,
                    (way, f"{side}={port.mac}", family),
                    *(on, *self._at(port, travel), _TRACK),
                    why=f"vm {port.vm}",
                )

    def _passed(self, port: Port) -> None:
        why = f"vm {port.vm}"
        nic, native = f"reg1={port.number:#x}", self._native(port)
        tag = ("push_vlan:0x8100", f"set_field:{0x1000 | native}->vlan_vid")
        down = ("set_field:0->in_port", f"output:{basic.down(_BRIDGE, self._switch(port))}")
        up = (NETWORK_FUNCTIONS.goto("up"),)
        on = NETWORK_FUNCTIONS.goto("chain")
        self.add("bare", 100, (nic, f"dl_vlan={native}"), "pop_vlan", on, why=why)
        for travel, out in ((UP, up), (DOWN, down)):
            self.add("passed", 100, (nic, travel, UNTAGGED), *tag, *out, why=why)
            self.add("passed", 100, (nic, travel, TAGGED), *out, why=why)

    # --- the connection that it is of

    def _direction(self) -> None:
        self.add("direction", 300, ("ct_state=+inv+trk",))
        # From a function: only what belongs to a connection that passes it, the way that it passes it.
        for way, wrong in ((ASKED, "ct_state=+rpl+trk"), (ANSWERED, "ct_state=-rpl+trk")):
            self.add("direction", 250, (way, "ct_mark=0"))
            self.add("direction", 200, (way, wrong))
        for travel, answer, began, way in (
            (UP, "ct_state=-rpl+trk", OUTBOUND, ASKED),
            (UP, "ct_state=+rpl+trk", INBOUND, ANSWERED),
            (DOWN, "ct_state=-rpl+trk", INBOUND, ASKED),
            (DOWN, "ct_state=+rpl+trk", OUTBOUND, ANSWERED),
        ):
            self.add(
                "direction",
                100,
                (travel, answer),
                *(_set(began), _set(way), NETWORK_FUNCTIONS.goto("quarantine")),
            )

    def _choice(self) -> None:
        """The rules of the NICs, and their own chains."""
        goto = NETWORK_FUNCTIONS.goto
        self.add("quarantine", 0, (), goto("policies"))
        self.add("policies", 0, (), goto("own"))
        here = self.policing.among(frozenset(self.nics))
        if here.lists:
            compile_rules(here, self.flows, self._place())
        for nic, port in zip(self.nics, self.ports, strict=True):
            if nic in self.chaining.own:
                chain = f"set_field:{number('chain', self.chaining.own[nic])}->reg6"
                self.add("own", 100, (f"reg1={port.number:#x}",), chain, goto("there"), why=f"vm {port.vm}")
        self.add("own", 0, (), goto("commitment"))
        for name in sorted({self.chaining.own[nic] for nic in self.nics if nic in self.chaining.own}):
            self._there(name)
        self.add("there", 0, (), goto("commitment"))
        for family in _FAMILIES:
            commit = f"ct(commit,zone={_ZONE},exec({_set(_KNOWN)}))"
            self.add("commitment", 100, (family, "ct_state=+new+trk", "ct_mark=0"), commit, goto("position"))
        self.add("commitment", 0, (), goto("position"))
        self.add("position", 50, ("reg8=0", "reg6=0"), goto("passed"))
        self.add("bare", 0, (), goto("chain"))

    def _there(self, name: str) -> None:
        """The receivers that have a chain by themselves: it is at theirs."""
        chain = f"reg6={number('chain', name)}"
        none = ("set_field:0->reg6", NETWORK_FUNCTIONS.goto("commitment"))
        spaces = {self.policing.directory.space(nic) for nic in self.nics}
        addresses: set[IPv4Address | IPv6Address] = set()
        for nic in (nic for nic, chain in self.chaining.own.items() if chain == name):
            port = self.intent.ports[nic]
            for space in spaces:
                addresses.update(self.policing.directory.seen(nic, space))
            for way, side in ((ASKED, "dl_dst"), (ANSWERED, "dl_src")):
                match = (chain, OUTBOUND, way, f"{side}={port.mac}")
                self.add("there", 100, match, *none, why=f"vm {port.vm}")
        for address in sorted(addresses, key=lambda one: (one.version, one)):
            family, to = ("ip", "ct_nw_dst") if address.version == 4 else ("ipv6", "ct_ipv6_dst")
            known = (family, "ct_state=-inv+trk", chain, OUTBOUND, f"{to}={address}")
            self.add("there", 90, known, *none, why=f"service chain {name}")

    def _place(self) -> Place:
        goto = NETWORK_FUNCTIONS.goto
        chain_of = {(*rule.path, rule.direction): chain for rule, chain in self.chaining.rules}
        rank = {key: place for place, key in enumerate(chain_of)}

        def priority(rule: Rule, shelf: int) -> int:
            """Rules with a chain before those without, in the order of the file."""
            place = rank.get((*rule.path, rule.direction))
            above = 4 * shelf if place is None else 1000 + 4 * (_MOST_RANKS - min(place, _MOST_RANKS))
            return 2000 * (len(Band) - rule.band) + above

        def actions(rule: Rule) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
            chain = chain_of.get((*rule.path, rule.direction))
            if rule.monitored and not rule.stage:
                yield 0, (), (goto("policies"),)
            elif chain is not None:
                yield 0, (), (f"set_field:{number('chain', chain)}->reg6", goto("commitment"))
            elif rule.monitored or rule.outcome == "allow":
                yield 0, (), (goto("own"),)
            else:
                yield 0, (), (goto("position"),)

        tables = NETWORK_FUNCTIONS["quarantine"], NETWORK_FUNCTIONS["policies"]
        return Place(_BRIDGE, tables, priority, actions)

    # --- the chain

    def _chain(self, name: str, chain: ServiceChain) -> None:
        why = f"service chain {name}"
        on = f"reg6={number('chain', name)}"
        count = len(chain.functions)
        start = ("set_field:0->reg7", NETWORK_FUNCTIONS.goto("bare"))
        self.add("position", 100, (on, "reg8=0"), *start, why=why)
        for index, function in enumerate(chain.functions):
            for way, done in ((ASKED, index + 1), (ANSWERED, count - index)):
                match = (on, way, f"reg8={number('function', function)}")
                on_from_there = (f"set_field:{done:#x}->reg7", NETWORK_FUNCTIONS.goto("chain"))
                self.add("position", 100, match, *on_from_there, why=why)
        for way in (ASKED, ANSWERED):
            order = chain.functions if way == ASKED else chain.functions[::-1]
            for done in range(count + 1):
                self._next(on, way, order, done, chain, why)

    def _next(
        self, on: str, way: str, order: Sequence[str], done: int, chain: ServiceChain, why: str
    ) -> None:
        """What comes after so many functions: copies to taps, and the next inline one."""
        match = (on, way, _position(done))
        goto = NETWORK_FUNCTIONS.goto
        copies = []
        for index in range(done, len(order)):
            instance = self.functions[order[index]]
            if instance.definition.mode == "tap":
                copies.append(f"output:{instance.port('in')}")
                continue
            into = f"output:{instance.port('in' if way == ASKED else 'out')}"
            if chain.on_failure == "close":
                self.add("chain", 100, match, *copies, into, why=why)
                return
            asks = (f"set_field:{number('function', order[index])}->reg8", "set_field:0->reg10")
            here = f"set_field:{_hex(index)}->reg7"
            find = NETWORK_FUNCTIONS.look_up("around")
            self.add("chain", 100, match, *copies, *asks, here, find, goto("dead"), why=why)
            if index == done:
                past = (f"set_field:{index + 1:#x}->reg7", NETWORK_FUNCTIONS.look_up("chain"))
                self.add("dead", 100, (*match, "reg10=0"), into, why=why)
                self.add("dead", 100, (*match, "reg10=0x1"), *past, why=why)
            return
        self.add("chain", 100, match, *copies, goto("passed"), why=why)


def _position(done: int) -> str:
    return f"reg7={_hex(done)}"


def _hex(value: int) -> str:
    """As OVS prints it."""
    return f"{value:#x}" if value else "0"


_MOST_RANKS = 249
"""Rules with a chain that have a priority of their own."""


def _set(field: str) -> str:
    name, value = field.split("=")
    return f"set_field:{value}->{name}"
