"""Commands on security policies: `policy test` answers from the intent alone, `policy suggest` from hits."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netctl.cli import output
from netctl.cli.options import PROOF_PANEL, Json, Lab, complete_file, complete_node
from netctl.errors import InputError

if TYPE_CHECKING:
    from netctl.compile.policies_peers import Directory
    from netctl.compile.policies_verdict import Packet
    from netctl.model import Intent
    from netctl.model.intent import Port

policy_app = typer.Typer(help="Ask what the security policies say, or have rules suggested.")

Address = (IPv4Address, IPv6Address)
"""What an end is that is no NIC."""

ECHO_REQUEST = {"icmp": 8, "icmp6": 128}

_WORDS = {"allow": "allowed", "drop": "dropped", "reject": "rejected"}


class Protocol(StrEnum):
    """What can be asked about."""

    icmp = "icmp"
    icmp6 = "icmp6"
    tcp = "tcp"
    udp = "udp"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(policy_app, name="policy", rich_help_panel=PROOF_PANEL)


# --- policy test ------------------------------------------------------------------------------------------


@policy_app.command("test")
def test_(
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="A", autocompletion=complete_node, help="A VM, VM/NIC, or an address."
        ),
    ],
    to: Annotated[
        str,
        typer.Option("--to", metavar="B", autocompletion=complete_node, help="A VM, VM/NIC, or an address."),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", autocompletion=complete_file, help="An intent file; a running lab if left out."
        ),
    ] = None,
    protocol: Annotated[Protocol, typer.Option("--protocol", help="What is sent.")] = Protocol.icmp,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="Where to; of ICMP the type, an echo request if left out.",
        ),
    ] = None,
    lab: Lab = None,
    json: Json = False,
) -> None:
    """What the policies say to the first packet of a connection, by which rule, and in which line.

    Answers from the intent alone: nothing is sent, and whether there is a way at all is another question.
    """
    from netctl.compile.policies_peers import Directory
    from netctl.compile.policies_verdict import verdict

    if protocol in (Protocol.tcp, Protocol.udp) and not port:
        raise InputError(
            f"{protocol.value} needs a port", f"Add --port, such as --protocol {protocol.value} --port 80."
        )
    intent, name = _intent(file, lab)
    there = Directory(intent)
    number = ECHO_REQUEST.get(protocol.value) if port is None else port
    packet = _packet(intent, there, from_, to, protocol.value, number)
    decided = verdict(intent, packet, there)
    word = _WORDS[decided.outcome]
    rule = _rule(intent, name, decided.path)
    watched = [_rule(intent, name, path) for path in decided.watched]
    if json:
        output.emit(
            {
                "from": packet.sender,
                "to": packet.receiver,
                "source": str(packet.source),
                "target": str(packet.target),
                "protocol": protocol.value,
                "icmp_type" if protocol.value.startswith("icmp") else "port": number,
                "outcome": word,
                "at": decided.end,
                "rule": rule,
                "monitored": watched,
            }
        )
        return
    if rule is None:
        output.say(f"{word}: no policy has a say", "bold")
    else:
        output.say(f"{word} by {rule['words']} ({rule['place']}), at {decided.end}", "bold")
    for one in watched:
        output.say(
            f"would be stopped by {one['words']} ({one['place']}), which is only monitored" if one else ""
        )


def _intent(file: Path | None, lab: str | None) -> tuple[Intent, str]:
    """The intent, and the file that its lines are counted in."""
    if file is not None:
        from netctl import intent as intents

        if lab is not None:
            raise InputError("a FILE and --lab are both given", "Leave one of them out.")
        return intents.load(file), str(file)
    from netctl.cli import operations

    running = operations.locate(lab)
    return running.intent, running.record.file


def _rule(intent: Intent, file: str, path: tuple[str | int, ...] | None) -> dict[str, Any] | None:
    """A rule for people and programs: its policy, its words, its place in the file."""
    if path is None:
        return None
    from netctl.cli.hits import line_of

    line = line_of(intent, path)
    return {
        "policy": path[1],
        "words": " ".join(["policy", *map(str, path[1:])]),
        "line": line,
        "place": file if line is None else f"{Path(file).name}:{line}",
    }


def _packet(
    intent: Intent, there: Directory, source: str, target: str, protocol: str, number: int | None
) -> Packet:
    from netctl.compile.policies_verdict import Packet

    sender, receiver = _end(intent, source), _end(intent, target)
    numbers = {port.name: index for index, port in enumerate(there.ports)}
    version = _version(protocol, sender, receiver)
    if isinstance(sender, Address) and isinstance(receiver, Address):
        raise InputError("policies are at VMs, and neither end is one", "Name a VM with --from or --to.")
    if isinstance(receiver, Address):
        assert not isinstance(sender, Address)
        nics = there.at(there.space(numbers[sender.name]), receiver)
        known = there.ports[next(iter(nics))].name if len(nics) == 1 else None
        seen = (
            _seen_by(intent, there, sender, numbers[known], numbers, version)
            if known
            else _own(sender, version)
        )
        return Packet(sender.name, known, seen, receiver, protocol, number)
    if isinstance(sender, Address):
        nics = there.at(there.space(numbers[receiver.name]), sender)
        known = there.ports[next(iter(nics))].name if len(nics) == 1 else None
        return Packet(known, receiver.name, sender, _own(receiver, version), protocol, number)
    if sender.name == receiver.name:
        raise InputError(f"{sender.name} is both ends", "Name two VMs.")
    return Packet(
        sender.name,
        receiver.name,
        _seen_by(intent, there, sender, numbers[receiver.name], numbers, version),
        _seen_by(intent, there, receiver, numbers[sender.name], numbers, version),
        protocol,
        number,
    )


def _version(protocol: str, *ends: Port | IPv4Address | IPv6Address) -> int:
    """The version of IP that is asked about: IPv4, unless something says otherwise or an end has none."""
    given: set[int] = {end.version for end in ends if isinstance(end, Address)}
    given |= {{"icmp": 4, "icmp6": 6}[protocol]} if protocol.startswith("icmp") else set()
    if len(given) > 1:
        raise InputError(
            "IPv4 and IPv6 do not go together", "Ask with both ends and the protocol of one of them."
        )
    if given:
        return given.pop()
    return (
        6
        if any(end.ip is None and end.ip6 is not None for end in ends if not isinstance(end, Address))
        else 4
    )


def _end(intent: Intent, text: str) -> Port | IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        pass
    try:
        return intent.port(text)
    except KeyError:
        vms = ", ".join(sorted(intent.file.vms)[:8])
        raise InputError(
            f"there is no VM, VM/NIC or address {text}",
            f"The VMs are {vms}." if vms else "There are no VMs.",
        ) from None


def _own(nic: Port, version: int) -> IPv4Address | IPv6Address:
    address = nic.ip if version == 4 else nic.ip6
    if address is None:
        raise _nameless(nic, version)
    return address


def _seen_by(
    intent: Intent, there: Directory, nic: Port, other: int, numbers: Mapping[str, int], version: int
) -> IPv4Address | IPv6Address:
    """The address under which another NIC meets this one."""
    seen = [one for one in there.seen(numbers[nic.name], there.space(other)) if one.version == version]
    if seen:
        own = nic.ip if version == 4 else nic.ip6
        return own if own in seen and own is not None else seen[0]
    ways = [way.snat_ip for way in intent.gateways if way.vpc == intent.file.subnets[nic.subnet].vpc]
    behind = next((address for address in ways if address is not None and version == 4), None)
    return behind if behind is not None else _own(nic, version)


def _nameless(nic: Port, version: int) -> InputError:
    key = "cidr" if version == 4 else "cidr6"
    return InputError(
        f"{nic.name} has no IPv{version} address that netctl knows",
        f"Write subnets.{nic.subnet}.{key}, or ask by address.",
    )


# --- policy suggest ---------------------------------------------------------------------------------------


@policy_app.command("suggest")
def suggest(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="A policy in mode monitor.")],
    lab: Lab = None,
    json: Json = False,
) -> None:
    """From what a monitored policy would have stopped so far: the rules that would allow it, as YAML.

    What is printed are whole keys to put into the policy, with what they have already. VMs become selectors
    of the categories that policies use, everybody else an address.
    """
    from dataplane.hits import read
    from netctl.cli import operations
    from netctl.cli.hits import WATCHED, Book
    from netctl.cli.suggestion import suggestion, whole
    from netctl.intent.writing import dump_data

    running = operations.locate(lab)
    intent = running.intent
    definition = intent.file.policies.get(policy)
    if definition is None:
        known = ", ".join(sorted(intent.file.policies))
        raise InputError(
            f"{running.name} has no policy {policy}",
            f"Its policies are {known}." if known else "It has none.",
        )
    if definition.mode != "monitor":
        raise InputError(
            f"the policy {policy} is in mode {definition.mode}",
            "Write mode: monitor, and let traffic pass for a while.",
        )
    if definition.type == "isolation":
        raise InputError(
            f"{policy} is an isolation policy: it allows nothing", "Its groups are what can be changed."
        )
    book = Book.of(running)
    stopped = (WATCHED["drop"], WATCHED["reject"])
    found = [
        hit
        for hit in book.entries(iter(read(running.name, intent.hosts)), {policy})
        if hit.outcome in stopped
    ]
    rules = suggestion(intent, definition, found)
    if json:
        output.emit({"policy": policy, "hits": len(found), "add": rules})
        return
    if not rules:
        output.note(f"{policy} would have stopped nothing so far")
        return
    output.note(f"to put into the policy {policy}, for {output.plural(len(found), 'hit')}:")
    output.write(dump_data({"policies": {policy: whole(definition, rules)}}))
