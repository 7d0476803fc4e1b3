"""The files, read by somebody else's reader."""

from __future__ import annotations

import io
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from dataplane.capture import pcapng

NOW = 1_700_000_000_123_456_789

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 1 << 40),
        st.binary(min_size=1, max_size=200),
        st.integers(0, 9000),
        st.sampled_from([pcapng.INBOUND, pcapng.OUTBOUND]),
    )
)
NAMES = ["web1/0", "hv1 tap3", "tor1 hv1.eth0"]


def read(data: bytes) -> list[tuple[bytes, Any]]:
    return list(RawPcapNgReader(io.BytesIO(data)))


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """The blocks of a file: each says its length at its begin and at its end."""
    found = []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def options(data: bytes) -> dict[int, bytes]:
    found = {}
    while True:
        code, length = struct.unpack_from("<HH", data)
        if code == 0:
            return found
        found[code] = data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]


@given(FRAMES)
def test_what_is_written_is_read(frames: list[tuple[int, int, bytes, int, int]]) -> None:
    data = pcapng.section("netctl", "lab shop")
    data += b"".join(pcapng.interface(name, f"{name}, a point") for name in NAMES)
    for point, after, octets, more, flags in frames:
        data += pcapng.packet(point, NOW + after, octets, len(octets) + more, flags)
    data += b"".join(pcapng.statistics(number, NOW, NOW + 1, 5) for number in range(3))
    found = read(data)
    assert len(found) == len(frames)
    for (octets, seen), (point, after, sent, more, flags) in zip(found, frames, strict=True):
        assert octets == sent
        assert seen.wirelen == len(sent) + more
        assert seen.ifname == NAMES[point].encode()
        assert seen.tsresol == 1_000_000_000
        assert (seen.tshigh << 32 | seen.tslow) == NOW + after
        assert seen.direction == flags
        assert seen.linktype == pcapng.ETHERNET


def test_an_interface_tells_what_it_is() -> None:
    [(kind, body)] = blocks(pcapng.interface("hv1 tap3", "web1/0 tap on hv1 (tap3)"))
    assert kind == 1
    assert options(body[8:]) == {2: b"hv1 tap3", 3: b"web1/0 tap on hv1 (tap3)", 9: b"\x09"}


def test_the_section_tells_who_wrote_it_and_of_which_lab() -> None:
    [(kind, body)] = blocks(pcapng.section("netctl", "lab shop"))
    assert kind == 0x0A0D0D0A
    assert options(body[16:]) == {4: b"netctl", 1: b"lab shop"}


def test_statistics_tell_what_was_lost() -> None:
    [(kind, body)] = blocks(pcapng.statistics(2, NOW, NOW + 5, 7, "no room for 3"))
    assert kind == 5
    assert struct.unpack_from("<I", body) == (2,)
    found = options(body[12:])
    assert found[4] == struct.pack("<Q", 7)
    assert found[1] == b"no room for 3"
    assert found[2] == struct.pack("<II", NOW >> 32, NOW & 0xFFFFFFFF)


@given(st.text(max_size=70000))
def test_any_text_fits_into_an_option(text: str) -> None:
    [(_, body)] = blocks(pcapng.section(text))
    assert options(body[16:])[4] == text.encode()[:0xFFFF]
