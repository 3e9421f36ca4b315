"""A network card in a provisioning document, and its file for systemd-networkd (systemd.network(5)).

Anything this small description does not cover (bonds, VLANs, policy routing) is written as files below
`/etc/systemd/network`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Annotated

from bedrock import strict

LinkName = Annotated[str, strict.Pattern(r"[a-z0-9][a-z0-9-]{0,30}", "a name of a-z, 0-9 and -")]
CardName = Annotated[str, strict.Pattern(r"!?[A-Za-z0-9_.*?:@-]{1,60}", "a card's name such as enp1s0 or en*")]
Domain = Annotated[str, strict.Pattern(r"~?[A-Za-z0-9._-]{1,253}", "a domain such as example.com")]
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+(%[A-Za-z0-9_.-]{1,15})?")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
_FOLDER = "/etc/systemd/network"


@dataclass(frozen=True)
class MacAddress:
    """A hardware address, written `52:54:00:12:34:56`."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> MacAddress:
        """Read one.

        Raises:
            ValueError: It has another form.
        """
        if _MAC.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not a hardware address such as 52:54:00:12:34:56")
        return cls(text.lower())

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Address:
    """An IP address."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> Address:
        """Read one.

        Raises:
            ValueError: It is none.
        """
        # A zone may be any text as far as `ip_address` is concerned, line breaks among it.
        if _ADDRESS.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not an IP address")
        return cls(str(ip_address(text)))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class AddressWithPrefix:
    """An IP address with the length of its network's prefix, written `192.0.2.7/24`."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> AddressWithPrefix:
        """Read one.

        Raises:
            ValueError: It is not one, or has no prefix.
        """
        if "/" not in text:
            raise ValueError(f"{text!r} has no prefix; write it such as 192.0.2.7/24")
        if "%" in text:
            raise ValueError(f"{text!r} has a zone, which belongs to the card it is given to anyway")
        return cls(str(ip_interface(text)))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Link:
    """The configuration of a network card, which is chosen by its name or hardware address."""

    name: LinkName
    card: CardName | None = None
    mac: MacAddress | None = None
    dhcp: bool = False
    addresses: tuple[AddressWithPrefix, ...] = ()
    gateways: tuple[Address, ...] = ()
    dns: tuple[Address, ...] = ()
    domains: tuple[Domain, ...] = ()
    ntp: tuple[Domain, ...] = ()
    mtu: Annotated[int, strict.Range(68, 65535)] | None = None

    def __post_init__(self) -> None:
        if self.card is None and self.mac is None:
            raise ValueError("one of card and mac must be given")
        if not self.dhcp and not self.addresses:
            raise ValueError("one of dhcp: true and addresses must be given")
        if self.gateways and not self.addresses:
            raise ValueError("gateways need addresses")

    @property
    def path(self) -> str:
        """The name of its file; it sorts before the image's own."""
        return f"{_FOLDER}/10-provision-{self.name}.network"

    @property
    def text(self) -> str:
        """The file's text."""
        lines = ["[Match]"]
        lines += [f"Name={self.card}"] if self.card else []
        lines += [f"PermanentMACAddress={self.mac}"] if self.mac else []
        lines += ["", "[Link]", f"MTUBytes={self.mtu}"] if self.mtu else []
        lines += ["", "[Network]", f"DHCP={'yes' if self.dhcp else 'no'}"]
        for key, values in (
            ("Address", self.addresses),
            ("Gateway", self.gateways),
            ("DNS", self.dns),
            ("Domains", self.domains),
            ("NTP", self.ntp),
        ):
            lines += [f"{key}={value}" for value in values]
        return "\n".join(lines) + "\n"
