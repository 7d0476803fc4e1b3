"""What all parts of the model share: frozen pydantic models that know no unknown key, and the scalar types."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,31}$"


class Model(BaseModel):
    """A frozen value with no room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name: a lower-case letter, then letters, digits and dashes; 1 to 32 characters."""

VlanId = Annotated[int, Field(ge=1, le=4094, strict=True)]
"""An IEEE 802.1Q VLAN ID; 0 and 4095 are reserved there."""

PortNumber = Annotated[int, Field(ge=1, le=65535, strict=True)]
"""A TCP or UDP port."""

Mtu = Annotated[int, Field(ge=576, le=9216, strict=True)]
"""Octets of a layer 3 packet that a link carries whole. 576: RFC 791; 9216: what switches offer as jumbo."""


def _mac(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value):
        raise ValueError("a MAC address is six pairs of hex digits with colons, such as 50:6b:8d:00:00:01")
    if int(value[:2], 16) & 1:
        raise ValueError("this is a multicast MAC address; the first octet of a NIC's address is even")
    if value == "00:00:00:00:00:00":
        raise ValueError("the all-zero MAC address belongs to nobody")
    return value.lower()


Mac = Annotated[str, AfterValidator(_mac)]
"""A unicast MAC address, kept in lower case."""

_RATE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def _rate(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a rate is a number with a unit, such as 20mbit")
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]?)(?:bit|bps|bit/s)?", str(value).lower())
    if not match or float(match[1]) <= 0:
        raise ValueError("a rate is a number with a unit, such as 20mbit")
    return int(float(match[1]) * _RATE_UNITS[match[2]])


Rate = Annotated[int, BeforeValidator(_rate)]
"""Bits a second; written 20mbit, 1gbit, 500kbit."""


class AddressRange(Model):
    """First and last address of a range, both included; written `a-b` or as one address."""

    first: IPv4Address
    last: IPv4Address

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last


def _range(value: Any) -> Any:
    if isinstance(value, AddressRange | dict):
        return value
    if not isinstance(value, str):
        raise ValueError("a range is two addresses with a dash, such as 192.168.1.50-192.168.1.99")
    first, dash, last = (part.strip() for part in value.partition("-"))
    try:
        low, high = IPv4Address(first), IPv4Address(last if dash else first)
    except AddressValueError as error:
        raise ValueError(f"{error} (a range is two addresses with a dash)") from None
    if low > high:
        raise ValueError(f"the range runs backwards: write {high}-{low}")
    return {"first": low, "last": high}


Range = Annotated[AddressRange, BeforeValidator(_range, json_schema_input_type=str)]

Cidr = IPv4Network
