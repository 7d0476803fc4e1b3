"""Security policies on subnets that OVN carries: port groups, address sets and ACLs (ovn-nb(5)).

Who is secured is in port groups, who the peers are in address sets: a change of categories changes only
these. An ACL is a rule of the ordered list (netctl.compile.policies_rules), its priority the rule's band, so
one tier is enough. Only where quarantine or isolation is monitored there are two: what the first has told,
the second decides.

With the first policy all NICs get some ACLs more: ARP and RARP pass, so do requests that OVN's DHCP answers,
and connections that no policy has a say in are tracked, so that they are known when one gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from netctl.compile.names import Names
from netctl.compile.policies_match import at, of_services, with_peers
from netctl.compile.policies_peers import Peers
from netctl.compile.policies_rules import DIRECTIONS, Direction, Policing, Rule
from netctl.compile.rows import Rows, refs
from netctl.compile.subnets import OVN_TYPES
from netctl.compile.trunks import tagged
from netctl.model.intent import Intent
from netctl.model.state import Ref

ALWAYS = 32000
"""The priority of what no policy ever blocks."""

FIRST_BAND = 30000
BAND_WIDTH = 1000
"""The priority of the first band, and how much lower each further one is."""

TRACKED = 1000
"""The priority of what no policy has a say in."""

RARP = "0x8035"
"""The EtherType of RARP (RFC 903), by which a VM that moved makes itself known."""

METER = "netctl-hits"
LOGGED_RATE = 100
"""The meter of logged packets; a second, that each rule logs on each host. What is more is only counted."""

FRAGMENTS = {"acl_ct_translation": "true"}
"""Have ACLs ask the connection for ports: in userspace only the first fragment of a packet shows them."""

_ACTIONS = {"allow": "allow-related", "reject": "reject", "drop": "drop"}
_OVN_DIRECTIONS = {"outbound": "from-lport", "inbound": "to-lport"}


def compile_policies(intent: Intent, policing: Policing, names: Names, rows: Rows) -> None:
    """All rows of the policies; none where none is in force on a subnet that OVN carries."""
    carried = frozenset(
        number
        for number, port in enumerate(intent.ports)
        if intent.file.subnets[port.subnet].type in OVN_TYPES
    )
    here = policing.among(carried)
    if not here.lists:
        return
    tiers = any(rule.monitored and rule.stage == 0 for rule in here.rules)
    compiler = _Compiler(intent, carried, names, rows, int(tiers))
    for space, rules in here.lists.items():
        for rule in rules:
            compiler.add(space, rule)
    compiler.add_always()
    compiler.finish()


@dataclass
class _Group:
    """A port group as it comes together: of NICs with all their ports, and of single ports."""

    nics: frozenset[int]
    ports: Sequence[str]
    why: str
    acls: list[Ref] = field(default_factory=list)


class _Compiler:
    """Collects the ACLs by port group: rules for the same NICs share one. `last_tier` is 0 or 1."""

    def __init__(
        self,
        intent: Intent,
        carried: frozenset[int],
        names: Names,
        rows: Rows,
        last_tier: int,
    ) -> None:
        self._intent, self._carried = intent, carried
        self._names, self._rows, self._last_tier = names, rows, last_tier
        self._groups: dict[str, _Group] = {}
        self._sets: dict[tuple[str, str], tuple[str | None, str | None]] = {}
        self._logs = False

    def add(self, space: str, rule: Rule) -> None:
        """The ACLs of a rule."""
        group = self._group(f"{space} {rule.group.key}", rule.group.nics)
        terms = [
            at(group, rule.direction),
            *with_peers(rule.peers, rule.direction, *self._address_sets(space, rule.peers)),
            *of_services(rule.services),
        ]
        if len(terms) == 1 and rule.outcome != "drop":
            terms.append("ip")  # what drops, drops everything
        words = f"{space} {rule.group.key} {rule.why} {rule.direction} {rule.band.name.lower()}"
        label = f"{rule.why.removeprefix('policy ')} {rule.outcome}"
        action = _ACTIONS[rule.outcome]
        if rule.monitored:
            action = "allow-related" if rule.stage else "pass"
        priority = FIRST_BAND - BAND_WIDTH * rule.band
        tier = self._last_tier if rule.stage else 0
        if rule.log and action in ("allow-related", "pass"):
            # A connection once, not every packet of it.
            first = [*terms, "ct.new"]
            self._add_acl(
                group, f"{words} new", rule.why, rule.direction, priority + 1, action, first, tier, label
            )
            label = ""
        self._add_acl(
            group, words, rule.why, rule.direction, priority, action, terms, tier, label if rule.log else ""
        )

    def add_always(self) -> None:
        """What holds for every NIC, whatever the policies say."""
        nics = self._group("every NIC", self._carried)
        for direction in DIRECTIONS:
            here = at(nics, direction)
            resolving = [here, f"(arp || eth.type == {RARP})"]
            self._add_acl(nics, f"arp {direction}", "policies", direction, ALWAYS, "allow", resolving, 0)
            tracked = [here, "ip"]
            self._add_acl(
                nics,
                f"rest {direction}",
                "policies",
                direction,
                TRACKED,
                "allow-related",
                tracked,
                self._last_tier,
            )
        for name, subnet in sorted(self._intent.file.subnets.items()):
            if subnet.answers_dhcp and subnet.dhcp_address is not None and subnet.type in OVN_TYPES:
                self._add_dhcp(name, subnet.dhcp_address)

    def _add_dhcp(self, name: str, server: IPv4Address) -> None:
        """Requests to OVN's DHCP in a subnet pass; what it does not take for one reaches nobody in its place.

        Stateless, so that no connection comes of it, nor an answer by somebody else. A port that leads to a
        VLAN has no connections that know a packet's ports, so there whatever is no request passes first.
        """
        subnet = self._intent.file.subnets[name]
        nics = [self._names.nic(port) for port in self._intent.ports if port.subnet == name]
        others = [
            self._names.trunked(port, vlan[1])
            for port, vlan in tagged(self._intent, OVN_TYPES)
            if vlan == (subnet.switch, subnet.vlan)
        ]
        if not nics:
            return
        answered = f"ip4.dst == {{255.255.255.255, {server}}}"
        request = "udp.src == 68 && udp.dst == 67"

        def add(group: str, direction: Direction, priority: int, action: str, *terms: str) -> None:
            words = f"{self._groups[group].why} {action}"
            match = (at(group, direction), *terms)
            self._add_acl(group, words, "policies", direction, priority, action, match, 0)

        asking = self._group(f"NICs that ask in {name}", ports=nics)
        add(asking, "outbound", ALWAYS, "allow-stateless", answered, request, "!ip.is_frag")
        near = self._group(f"NICs in {name}", ports=[*nics, *others])
        add(near, "inbound", ALWAYS, "drop", request)
        if subnet.type == "vlan":
            away = self._group(f"way out of {name}", ports=[self._names.localnet(name, subnet.switch)])
            broadcast = (answered, "ip.proto == 17")
            add(away, "inbound", ALWAYS, "allow-stateless", *broadcast, f"!({request})")
            add(away, "inbound", ALWAYS - 1, "drop", *broadcast)

    def finish(self) -> None:
        """The port groups, and the meter where something is logged."""
        for name, group in self._groups.items():
            members = sorted([*group.ports, *(member for nic in group.nics for member in self._ports(nic))])
            self._rows.add(
                "Port_Group",
                name,
                group.why,
                ports=tuple(Ref("Logical_Switch_Port", member) for member in members),
                acls=refs(group.acls),
            )
        self._rows.add_shared("NB_Global", ".", "policies", options=FRAGMENTS)
        if self._logs:
            band = self._rows.add_unnamed(
                "Meter_Band", self._meter, "policies", action="drop", rate=LOGGED_RATE, burst_size=LOGGED_RATE
            )
            self._rows.add("Meter", self._meter, "policies", unit="pktps", fair=True, bands=(band,))

    @property
    def _meter(self) -> str:
        return f"{self._names.prefix}{METER}"

    def _group(self, words: str, nics: frozenset[int] = frozenset(), ports: Sequence[str] = ()) -> str:
        name = self._names.identifier(words)
        self._groups.setdefault(name, _Group(nics, ports, f"policies of {words}"))
        return name

    def _ports(self, nic: int) -> list[str]:
        """The logical switch ports of a NIC: of a trunk those of its other VLANs too."""
        port = self._intent.ports[nic]
        native = self._intent.file.subnets[port.subnet].vlan
        trunked = sorted({*port.trunked} - {native}) if port.mode == "trunk" else []
        return [self._names.nic(port), *(self._names.trunked(port, vlan) for vlan in trunked)]

    def _address_sets(self, space: str, peers: Peers) -> tuple[str | None, str | None]:
        """The names of the sets of a rule's peers; None where there are no such addresses."""
        key = (space, peers.key)
        if key not in self._sets:
            self._sets[key] = (
                self._address_set(space, peers.key, "ip4", peers.ipv4),
                self._address_set(space, peers.key, "ip6", peers.ipv6),
            )
        return self._sets[key]

    def _address_set(self, space: str, key: str, family: str, addresses: tuple[str, ...]) -> str | None:
        if not addresses:
            return None
        name = self._names.identifier(f"{space} {key} {family}")
        self._rows.add("Address_Set", name, f"peers {key}", addresses=tuple(sorted(addresses)))
        return name

    def _add_acl(
        self,
        group: str,
        words: str,
        why: str,
        direction: Direction,
        priority: int,
        action: str,
        terms: Sequence[str],
        tier: int,
        label: str = "",
    ) -> None:
        """An ACL; one with a label logs, under that name."""
        self._logs |= bool(label)
        self._groups[group].acls.append(
            self._rows.add_unnamed(
                "ACL",
                f"{self._names.prefix}{words}",
                why,
                direction=_OVN_DIRECTIONS[direction],
                priority=priority,
                match=" && ".join(terms),
                action=action,
                tier=tier or None,
                log=bool(label) or None,
                severity="info" if label else None,
                meter=self._meter if label else None,
                name=label or None,
            )
        )
