from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pickle
import time
import traceback

import pytest

from alerts.signing import Signer, unsigned_headers

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def independent(key: bytes, headers: dict[str, str], body: bytes) -> str:
    """The standard's own words, sharing no code with us or the library."""
    text = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_the_signature_is_the_standards_in_every_zone_of_the_machine(zone, monkeypatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        headers = Signer(SECRET).headers("msg", 1_764_000_000_999, '{"x":"é"}'.encode())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert headers["webhook-timestamp"] == "1764000000"
    assert headers["webhook-signature"] == independent(KEY, headers, '{"x":"é"}'.encode())


def test_white_space_around_a_secret_from_a_file_is_ignored() -> None:
    body = b"{}"
    assert Signer(f" {SECRET}\n").headers("m", 0, body) == Signer(SECRET).headers("m", 0, body)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("", "begins with whsec_"),
        (base64.b64encode(KEY).decode(), "begins with whsec_"),
        ("whsec_", "holds 0"),
        ("whsec_planted!secret", "not base64"),
        ("whsec_plantédsecret", "not base64"),
        ("whsec_cGxhbnRlZHNlY3JldA==", "holds 13"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "holds 65"),
    ],
)
def test_a_bad_secret_is_refused_in_clear_words_without_itself(secret, words) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Signer(secret)
    shown = "".join(traceback.format_exception(caught.value))
    material = secret.removeprefix("whsec_")
    assert not material or material not in shown.split("Signer(secret)")[-1]
    assert caught.value.__context__ is None


def test_a_secret_is_in_no_repr_and_no_pickle() -> None:
    signer = Signer(SECRET)
    assert repr(signer) == str(signer) == "Signer(***)"
    with pytest.raises(TypeError):
        pickle.dumps(signer)


def test_without_a_secret_the_id_and_time_are_still_there() -> None:
    assert unsigned_headers("m", 1999) == {"webhook-id": "m", "webhook-timestamp": "1"}


def test_other_bytes_have_another_signature() -> None:
    signer, body = Signer("whsec_" + base64.b64encode(os.urandom(24)).decode()), b'{"a":1}'
    signatures = {
        signer.headers(i, t, b)["webhook-signature"]
        for i, t, b in [("m", 0, body), ("n", 0, body), ("m", 1000, body), ("m", 0, b'{"a":2}')]
    }
    assert len(signatures) == 4
