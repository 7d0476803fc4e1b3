"""What all parts of the model share: frozen pydantic models that know no unknown key, and the scalar types.

Validators here say what is wrong *and* what to write instead (`mistake`); netctl.intent.grammar finds
the words for everything that pydantic itself refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_network,
)
from typing import Annotated, Any, Literal
from unicodedata import normalize

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,31}$"


def as_name(text: str) -> str:
    """The name nearest to a text: `Web Server_1` as web-server-1; "" where nothing of it can be in one."""
    ascii_ = normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"^[0-9-]+", "", re.sub(r"[^a-z0-9]+", "-", ascii_))[:32].strip("-")


def mistake(what: str, hint: str, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """What a validator raises: what is wrong, what to write instead, and where inside the value."""
    return PydanticCustomError("mistake", "{what}", {"what": what, "hint": hint, "at": at})


def show(value: Any) -> str:
    """A value as a message quotes it: short, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else str(getattr(value, "text", value))
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 40 else f"{text[:37]}..."


class Model(BaseModel):
    """A frozen value with no room for unknown keys. A key with nothing behind it is as if left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if data is None:
            return {}
        if type(data) is dict and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


@cache
def attributes(model: type[BaseModel]) -> dict[str, str]:
    """The attributes of a model by the keys that users write."""
    return {info.alias or attribute: attribute for attribute, info in model.model_fields.items()}


@dataclass(frozen=True)
class Says:
    """What users call values of a type, in hints and in the reference; pydantic does not look at it."""

    text: str


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN), Says("a name")]
"""A name: a lower-case letter, then letters, digits and dashes; 1 to 32 characters."""

VlanId = Annotated[int, Field(ge=1, le=4094, strict=True), Says("a VLAN ID, 1 to 4094")]
"""An IEEE 802.1Q VLAN ID; 0 and 4095 are reserved there."""

PortNumber = Annotated[int, Field(ge=1, le=65535, strict=True), Says("a port, 1 to 65535")]
"""A TCP or UDP port."""

Mtu = Annotated[int, Field(ge=576, le=9216, strict=True), Says("an MTU, 576 to 9216")]
"""Octets of a layer 3 packet that a link carries whole. 576: RFC 791; 9216: what switches offer as jumbo."""


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else ""
    if word in ("yes", "on"):
        return True
    if word in ("no", "off"):
        return False
    raise mistake(f"{show(value)} is neither true nor false", "write true or false")


Flag = Annotated[bool, BeforeValidator(_flag), Says("true or false")]
"""true or false; yes, no, on and off (YAML 1.1) mean the same."""


def _address(value: Any) -> Any:
    if isinstance(value, IPv4Address):
        return value
    if isinstance(value, str):
        try:
            return IPv4Address(value)
        except AddressValueError:
            if re.fullmatch(r"[0-9.]+/[0-9]+", value):
                raise mistake(
                    f"{show(value)} is an address with a prefix length",
                    f"write the address alone: {value.partition('/')[0]}",
                ) from None
    raise mistake(f"{show(value)} is not an IPv4 address", "write four numbers up to 255, such as 10.10.0.11")


Address = Annotated[IPv4Address, BeforeValidator(_address), Says("an IPv4 address")]
"""An IPv4 address."""


def _network(value: Any) -> Any:
    if isinstance(value, IPv4Network):
        return value
    hint = "write a network and its prefix length, such as 10.10.0.0/24"
    if isinstance(value, str):
        try:
            network = IPv4Network(value)
        except (AddressValueError, NetmaskValueError):
            hint = "IPv6 is written apart, in cidr6" if ":" in value else hint
        except ValueError:  # host bits set
            network = IPv4Interface(value).network
            raise mistake(
                f"{show(value)} is an address in the network {network}", f"write {network}"
            ) from None
        else:
            if "/" in value:
                return network
            raise mistake(f"{show(value)} has no prefix length", f"write {value}/24, or {value}/32")
    raise mistake(f"{show(value)} is not an IPv4 network", hint)


Network = Annotated[IPv4Network, BeforeValidator(_network), Says("an IPv4 network")]
"""An IPv4 network in CIDR notation."""


def _network6(value: Any) -> Any:
    if isinstance(value, IPv6Network):
        return value
    hint = "write a network and its prefix length, such as 2001:db8:1::/64"
    if isinstance(value, str):
        try:
            network = IPv6Network(value, strict=False)
        except ValueError:
            hint = "IPv4 is written apart, in cidr" if re.fullmatch(r"[0-9.]+/[0-9]+", value) else hint
        else:
            if "/" not in value:
                raise mistake(f"{show(value)} has no prefix length", f"write {value}/64")
            if network.network_address != IPv6Address(value.partition("/")[0]):
                raise mistake(f"{show(value)} is an address in the network {network}", f"write {network}")
            return network
    raise mistake(f"{show(value)} is not an IPv6 network", hint)


Network6 = Annotated[IPv6Network, BeforeValidator(_network6), Says("an IPv6 network")]
"""An IPv6 network in CIDR notation."""


def _any_network(value: Any) -> Any:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if isinstance(value, str):
        try:
            return ip_network(value)
        except ValueError:
            pass
    return _network6(value) if isinstance(value, str) and ":" in value else _network(value)


AnyNetwork = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(_any_network), Says("an IPv4 or IPv6 network")
]
"""An IPv4 or IPv6 network; an address alone is the network of just it."""


def _interface(value: Any) -> Any:
    if isinstance(value, IPv4Interface):
        return value
    if isinstance(value, str):
        try:
            interface = IPv4Interface(value)
        except ValueError:
            pass
        else:
            if "/" not in value:
                raise mistake(
                    f"{show(value)} has no prefix length", f"write the network's length with it: {value}/24"
                )
            return interface
    raise mistake(
        f"{show(value)} is not an IPv4 address with a prefix length", "write it such as 203.0.113.9/24"
    )


Interface = Annotated[IPv4Interface, BeforeValidator(_interface), Says("an address/length")]
"""An IPv4 address with the prefix length of its network."""


def _mac(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value):
        raise mistake(
            f"{show(value)} is not a MAC address",
            "write six pairs of hex digits with colons, such as 50:6b:8d:00:00:01",
        )
    if int(value[:2], 16) & 1:
        raise mistake(
            f"{value} is a multicast MAC address", "a NIC's own address has an even first octet, such as 50"
        )
    if value == "00:00:00:00:00:00":
        raise mistake("the all-zero MAC address belongs to nobody", "leave it out to have one assigned")
    return value.lower()


Mac = Annotated[str, BeforeValidator(_mac), Says("a MAC address")]
"""A unicast MAC address, kept in lower case."""

_RATE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def _rate(value: Any) -> Any:
    match = None
    if isinstance(value, str | int) and not isinstance(value, bool) and len(str(value)) < 32:
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]?)(?:bit|bps|bit/s)?", str(value).lower(), re.ASCII)
    rate = int(float(match[1]) * _RATE_UNITS[match[2]]) if match else 0
    if not 1 <= rate <= 10**12:
        raise mistake(f"{show(value)} is not a rate", "write a number and a unit, such as 20mbit or 1gbit")
    return rate


Rate = Annotated[
    int, BeforeValidator(_rate, json_schema_input_type=int | str), Says("a rate, such as 20mbit")
]
"""Bits a second; written 20mbit, 1gbit, 500kbit."""

_TIME_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(value: Any) -> Any:
    if type(value) is float:  # from code; what a file has is no plain float
        return value
    match = None
    if isinstance(value, str) and len(value) < 32:
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|h)", value, re.ASCII)
    seconds = float(match[1]) * _TIME_UNITS[match[2]] if match else 0.0
    if not 0.001 <= seconds <= 86400:
        bare = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        hint = f"write the unit: {show(value)}s" if bare else "write it such as 2s or 500ms, a day at most"
        raise mistake(f"{show(value)} is not a duration", hint)
    return seconds


def _written_duration(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    float,
    BeforeValidator(_duration, json_schema_input_type=str),
    PlainSerializer(_written_duration, return_type=str),
    Says("a duration, such as 2s or 500ms"),
]
"""Seconds; written 2s, 500ms, 1.5s, 1m."""


class AddressRange(Model):
    """First and last address of a range, both included; written `a-b` or as one address."""

    first: IPv4Address
    last: IPv4Address

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @model_serializer
    def _as_text(self) -> str:
        return str(self)


def _range(value: Any) -> Any:
    if isinstance(value, AddressRange):
        return value
    if isinstance(value, str):
        first, dash, last = (part.strip() for part in value.partition("-"))
        try:
            low, high = IPv4Address(first), IPv4Address(last if dash else first)
        except AddressValueError:
            pass
        else:
            if low > high:
                raise mistake(f"the range {show(value)} runs backwards", f"write {high}-{low}")
            return AddressRange(first=low, last=high)
    raise mistake(
        f"{show(value)} is not a range of addresses",
        "write two addresses with a dash, such as 192.168.1.50-192.168.1.99",
    )


Range = Annotated[
    AddressRange, BeforeValidator(_range, json_schema_input_type=str), Says("a range of addresses")
]
"""A range of IPv4 addresses."""


def _word_or_list(value: Any) -> str:
    return "<list>" if isinstance(value, list | tuple) else "<word>"


def _word_or_map(value: Any) -> str:
    return "<map>" if isinstance(value, dict | BaseModel) else "<word>"


WORD_OR_LIST = Discriminator(_word_or_list)
WORD_OR_MAP = Discriminator(_word_or_map)

AllOrNames = Annotated[
    Annotated[Literal["all"], Tag("<word>")] | Annotated[list[Name], Tag("<list>")], WORD_OR_LIST
]
"""`all`, or a list of names."""
