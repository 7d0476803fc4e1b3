"""One TCP stream, as fast as it goes: run one of these in the namespace of each end.

    python stream.py receive PORT                   prints "listening", takes one connection, ends
    python stream.py send ADDRESS PORT SECONDS      prints JSON: bytes, seconds, retransmits

Bytes and seconds are the receiver's, from its first byte to its last. Retransmits are what the sender's
kernel counted for this connection (TCP_INFO) or for its namespace (/proc/net/snmp), whichever is more.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from pathlib import Path

CHUNK = 256 * 1024
LIMIT = 30.0
TOTAL_RETRANS = 100
"""Where tcpi_total_retrans is in struct tcp_info (linux/tcp.h)."""

_REPORT = struct.Struct("!Qd")


def receive(port: int) -> None:
    """Count what one sender sends, and tell it."""
    with socket.create_server(("", port)) as listening:
        listening.settimeout(LIMIT)
        print("listening", flush=True)
        connection, _ = listening.accept()
    with connection:
        connection.settimeout(LIMIT)
        buffer = bytearray(4 * CHUNK)
        total = connection.recv_into(buffer, 1)
        began = time.monotonic()
        while size := connection.recv_into(buffer):
            total += size
        connection.sendall(_REPORT.pack(total, time.monotonic() - began))


def send(address: str, port: int, seconds: float) -> None:
    """Send for so long, then print what arrived."""
    before = retransmitted_segments()
    with socket.create_connection((address, port), timeout=LIMIT) as connection:
        chunk = bytes(CHUNK)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        report = b""
        while len(report) < _REPORT.size:
            part = connection.recv(_REPORT.size - len(report))
            if not part:
                sys.exit("the receiver went away")
            report += part
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    received, took = _REPORT.unpack(report)
    of_connection = struct.unpack_from("=I", info, TOTAL_RETRANS)[0]
    retransmits = max(of_connection, retransmitted_segments() - before)
    print(json.dumps({"bytes": received, "seconds": took, "retransmits": retransmits}))


def retransmitted_segments() -> int:
    """TcpRetransSegs of the namespace."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("RetransSegs")])


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(int(sys.argv[2]))
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
