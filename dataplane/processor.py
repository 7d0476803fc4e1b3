"""A network function: the packet processor in its namespace, which stays as long as the function lives.

    python -I processor.py --pidfile=FILE --log-file=FILE --mode=inline|tap --program=WORD --rules=JSON

Its NICs are `in` and, inline, `out`. What whoever began a connection sends comes in at `in` and goes on at
`out`; the answers come the other way. Which side a MAC address is on changes with who begins, so a bridge
between them must not learn: it hands everything on.

    bridge      a Linux bridge between the two
    firewall    the same with rules (nftables): the first that matches decides, what none matches passes
    capture     keeps what it sees (capture.pcap in the node's directory); inline, a bridge as well
    delay       hands on what it gets 10 ms later
    a command   is run with the names of the NICs as arguments, and in the environment

It imports nothing but the standard library, so that it starts at once and stays small.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import json
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

DELAY = 0.010
"""Seconds that `delay` holds a frame."""

SNAPSHOT = 65535
"""Octets of a frame that `capture` keeps."""

MOST_OCTETS = 16 << 20
"""Octets of its file; then it begins another, and keeps the one before as well."""

BRIDGE = "between"

PROBE_MAC = "0a:6e:66:00:00:01"
"""The sender of the frames by which it is seen whether a function lives; a firewall lets them pass."""

_ETH_P_ALL = 0x0003
_PR_SET_PDEATHSIG = 1
_PACKET_IGNORE_OUTGOING = 23
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_VLAN_VALID = 0x10


def run(*words: str, text: str | None = None) -> None:
    """Run a command. SystemExit with its words when it fails."""
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"{words[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")


def quiet() -> None:
    """Let the kernel send nothing of its own, and listen to nothing."""
    for file, value in (
        ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
        ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
    ):
        if os.path.exists(file):
            with open(file, "w") as setting:
                setting.write(value)


def bridge() -> None:
    """A bridge between the two NICs that hands on every frame and learns nothing."""
    run("ip", "link", "add", "name", BRIDGE, "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
    for end in ("in", "out"):
        run("ip", "link", "set", end, "master", BRIDGE)
        run("ip", "link", "set", end, "type", "bridge_slave", "learning", "off", "flood", "on")
    run("ip", "link", "set", BRIDGE, "up")


def clear() -> None:
    """Remove what another program left."""
    for words in (("ip", "link", "delete", BRIDGE), ("nft", "flush", "ruleset")):
        with contextlib.suppress(OSError):
            subprocess.run(words, capture_output=True, check=False)


def ruleset(rules: Iterable[str]) -> str:
    """The rules of a firewall for nft(8)."""
    # Rules are for what begins connections; the answers to what passed come in at the other end.
    lines = ['iifname "out" accept', f"ether saddr {PROBE_MAC} accept"]
    for rule in rules:
        verb, service = rule.split(" ", 1)
        verdict = "accept" if verb == "allow" else "drop"
        lines += [f"{match} counter {verdict}".strip() for match in matches(service)]
    text = "\n    ".join(lines)
    return (
        "table bridge firewall {\n  chain rules {\n    "
        "type filter hook forward priority 0; policy accept;\n    "
        f"{text}\n  }}\n}}\n"
    )


def matches(service: str) -> list[str]:
    """A service (`tcp/80`, `udp/5000-5010`, `icmp/8`, `tcp`, `any`) for nft(8)."""
    protocol, slash, numbers = service.partition("/")
    if protocol == "any":
        return [""]
    family, header, side = {
        "icmp": ("ip", "icmp", "icmp type"),
        "icmp6": ("ip6", "ipv6-icmp", "icmpv6 type"),
        "tcp": ("", "tcp", "tcp dport"),
        "udp": ("", "udp", "udp dport"),
    }[protocol]
    if slash:
        return [f"{side} {numbers}"]
    if protocol == "icmp":
        return [f"{family} protocol {header}"]
    if protocol == "icmp6":
        return [f"{family} nexthdr {header}"]
    return [f"ip protocol {header}", f"ip6 nexthdr {header}"]


def listen(device: str) -> socket.socket:
    """A socket that gets the frames that come in by a device."""
    here = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    here.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    here.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    here.bind((device, _ETH_P_ALL))
    return here


def receive(here: socket.socket) -> bytes:
    """The next frame, with its tag, which the kernel hands over beside it."""
    frame, ancillary, _, _ = here.recvmsg(1 << 17, 256)
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
            status, _, _, _, _, tag, protocol = struct.unpack_from("=IIIHHHH", data)
            if status & _VLAN_VALID:
                return frame[:12] + struct.pack("!HH", protocol or 0x8100, tag) + frame[12:]
    return frame


def delay() -> None:
    """Hand frames on later, in the order in which they came."""
    ends = {end: listen(end) for end in ("in", "out")}
    other = {ends["in"]: ends["out"], ends["out"]: ends["in"]}
    held: list[tuple[float, int, socket.socket, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        for here in select.select(list(other), [], [], wait)[0]:
            count += 1
            heapq.heappush(held, (time.monotonic() + DELAY, count, other[here], receive(here)))
        while held and held[0][0] <= time.monotonic():
            _, _, out, frame = heapq.heappop(held)
            try:
                out.send(frame)
            except OSError:
                continue  # it is down


def capture(file: str, ends: Sequence[str]) -> None:
    """Keep what comes in, as a pcap file (draft-ietf-opsawg-pcap)."""
    sockets = [listen(end) for end in ends]
    while True:
        with open(f"{file}.new", "wb", buffering=0) as log:
            log.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPSHOT, 1))
            os.replace(f"{file}.new", file)
            while log.tell() < MOST_OCTETS:
                for here in select.select(sockets, [], [])[0]:
                    try:
                        frame = receive(here)
                    except OSError:
                        continue  # it is down
                    now = time.time_ns()
                    head = struct.pack("=IIII", now // 10**9, now % 10**9, len(frame[:SNAPSHOT]), len(frame))
                    log.write(head + frame[:SNAPSHOT])
        os.replace(file, f"{file}.1")


def command(words: Sequence[str], ends: Sequence[str], place: str) -> None:
    """Run the user's program, and again when it ends."""
    named = {f"NETCTL_{end.upper()}": end for end in ends}
    while True:
        begin = time.monotonic()
        try:
            child = subprocess.Popen(
                [*words, *ends],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **named},
                cwd=place,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise SystemExit(f"{words[0]}: {error.strerror}") from None
        code = child.wait()
        print(f"{words[0]} ended with exit code {code}", file=sys.stderr, flush=True)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - begin)))


def found(word: str, place: str) -> None:
    """SystemExit where there is no such command."""
    path = os.path.join(place, word) if "/" in word else shutil.which(word)
    if path is None or not os.path.exists(path):
        raise SystemExit(f"there is no program {word}" + (f" in {place}" if "/" in word else ""))
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} may not be executed (chmod +x)")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def detach(pidfile: str, log_file: str) -> None:
    """Go to the background: whoever started us goes on when this returns in the child."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, descriptor in ((0, null), (1, log), (2, log)):
        os.dup2(descriptor, number)
    with open(pidfile, "w") as file:
        file.write(f"{os.getpid()}\n")


def main(arguments: list[str]) -> None:
    """Set the function up, go to the background, and work."""
    options = dict(one[2:].split("=", 1) for one in arguments)
    inline, program = options["mode"] == "inline", options["program"]
    ends = ("in", "out") if inline else ("in",)
    own = program in ("bridge", "firewall", "capture", "delay")
    words = [] if own else shlex.split(program)
    quiet()
    clear()
    if inline and program in ("bridge", "firewall", "capture"):
        bridge()
    if program == "firewall":
        run("nft", "-f", "-", text=ruleset(json.loads(options["rules"])))
    if words:
        found(words[0], options["directory"])
    detach(options["pidfile"], options["log-file"])
    if program == "capture":
        capture(options["capture"], ends)
    elif program == "delay":
        delay()
    elif not own:
        command(words, ends, options["directory"])
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
