from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeyUriError
from keys.uri import KeyUri, parse_uri


def test_relative_file_is_taken_from_the_folder() -> None:
    assert parse_uri("file:root-1.pem").anchored(Path("/k")).path == Path("/k/root-1.pem")


@pytest.mark.parametrize("text", ["file:/a/b.pem", "file:///a/b.pem", "file://localhost/a/b.pem"])
def test_absolute_file_stays_where_it_is(text: str) -> None:
    assert parse_uri(text).anchored(Path("/k")).path == Path("/a/b.pem")


def test_other_schemes_are_not_touched_by_the_folder() -> None:
    text = "pkcs11:token=a;object=db%20key?module-path=/x.so"
    assert str(parse_uri(text).anchored(Path("/k"))) == text


@pytest.mark.parametrize(
    "text", ["", "root-1.pem", "file:", "file://server/x", "file://", "FILE:x", "file:a%00b", ":x"]
)
def test_malformed_uri_is_refused(text: str) -> None:
    with pytest.raises(KeyUriError):
        parse_uri(text)


def test_path_of_another_scheme_is_refused() -> None:
    with pytest.raises(KeyUriError, match="pkcs11:object=x"):
        _ = parse_uri("pkcs11:object=x").path


@given(
    st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).filter(lambda s: s != ".")
)
def test_any_file_name_survives_as_uri(name: str) -> None:
    path = Path("/keys") / name
    assert parse_uri(str(KeyUri.of_path(path))).path == path


@given(st.text())
def test_parsing_any_text_gives_a_uri_or_a_key_uri_error(text: str) -> None:
    try:
        uri = parse_uri(text)
    except KeyUriError:
        return
    assert parse_uri(str(uri)) == uri
