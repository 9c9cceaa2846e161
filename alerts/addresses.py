"""What an address is: of the network, public or not; of mail, one or none. Pure."""

from __future__ import annotations

import ipaddress
from email.utils import getaddresses

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PROTOCOL_ASSIGNMENTS = ipaddress.IPv4Network("192.0.0.0/24")  # in part public to some releases of Python

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Whether it is a public unicast address, also when it is another one in disguise (mapped, 6to4, Teredo, NAT64).

    Raises ValueError for what is no IP address.
    """
    ip: IPAddress = ipaddress.ip_address(address.partition("%")[0])
    seen = _embedded(ip) if ip in _NAT64 else (ip, *_embedded(ip))
    return all(
        each.is_global and not each.is_multicast and not each.is_reserved and each not in _PROTOCOL_ASSIGNMENTS
        for each in seen
    )


def is_mail_address(text: str) -> bool:
    """`a@b` or `Name <a@b>`, without what could end a header."""
    found = getaddresses([text])
    local, _, domain = found[0][1].rpartition("@") if len(found) == 1 else ("", "", "")
    return bool(local and domain) and text.isprintable() and not set(local + domain) & set(" ,;")


def _embedded(ip: IPAddress) -> tuple[IPAddress, ...]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ()
    inner: list[IPAddress | None] = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64:
        inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
    return tuple(each for each in inner if each is not None)
