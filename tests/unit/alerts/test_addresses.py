from __future__ import annotations

import pytest

from alerts.addresses import is_mail_address, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "198.18.0.1", "192.0.0.8", "203.0.113.5", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "2002:7f00:1::", "2002:a00:1::1",
    ],
)  # fmt: skip
def test_what_is_not_the_internet_is_not_public(address) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_is_public_is(address) -> None:
    assert is_public(address)


def test_a_name_is_no_address() -> None:
    with pytest.raises(ValueError):
        is_public("localhost")


@pytest.mark.parametrize("text", ["a@b", "drift@example.com", "Drift <drift@example.com>", '"D, R" <d@example.com>'])
def test_mail_addresses(text) -> None:
    assert is_mail_address(text)


@pytest.mark.parametrize("text", ["", "drift", "@b", "a@", "a@b\nBcc: c@d", "a@b, c@d", "a b@c", "a@b\r\n"])
def test_what_is_no_mail_address(text) -> None:
    assert not is_mail_address(text)
