"""`pkcs11:` URIs: what they may say, and what must never be in one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeyUriError
from keys.token_uri import TokenUri
from keys.uri import KeyUri, parse_uri


def test_a_uri_names_token_key_and_module() -> None:
    uri = parse_uri(
        "pkcs11:token=My%20token;serial=42;object=db;id=%01%ff;type=private?module-path=/usr/lib/x.so"
    ).token
    assert (uri.token, uri.serial, uri.object, uri.id) == ("My token", "42", "db", b"\1\xff")
    assert str(uri.module_path) == "/usr/lib/x.so"
    assert uri.token_conditions == "token My token, serial 42"
    assert uri.key_conditions == "label db, id 01ff"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pkcs11:token=a;pin-value=1234", "must not hold pin-value: a PIN comes from where passphrases come from"),
        ("pkcs11:token=a?pin-value=1234", "must not hold pin-value"),
        ("pkcs11:token=a?pin-source=file:/pin", "must not hold pin-source"),
        ("pkcs11:token=a;tokn=b", "must not hold 'tokn'"),
        ("pkcs11:token=a;token=b", "must hold token once"),
        ("pkcs11:token", "must hold name=value"),
        ("pkcs11:token=a b", "must hold name=value"),
        ("pkcs11:token=%zz", "must hold name=value"),
        ("pkcs11:token=%ff", "must hold UTF-8"),
        ("pkcs11:type=cert", "must name a private key, not type=cert"),
        ("pkcs11:slot-id=x", "slot-id must be a number"),
        ("pkcs11:object=x?module-path=lib.so", "module-path must be an absolute path"),
        ("pkcs11:object=" + "x" * 2000, "at most 1024 characters"),
        ("hsm:2?label=key", "must name a key in a token as pkcs11:"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, says: str) -> None:
    with pytest.raises(KeyUriError) as caught:
        parse_uri(text)
    assert says in str(caught.value)
    assert "1234" not in str(caught.value)


def test_a_uri_stays_as_it_was_written() -> None:
    text = "pkcs11:token=My%20token;object=db"
    assert str(KeyUri.from_text(text)) == text
    with pytest.raises(KeyUriError, match="does not name a key in a token"):
        _ = parse_uri("file:/x").token


@given(st.text(max_size=64))
def test_any_text_is_a_uri_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(TokenUri.from_rest(text), TokenUri)
