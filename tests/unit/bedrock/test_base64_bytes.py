"""Bytes written as base64: read back as they were, and nothing else is taken for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.base64_bytes import Base64Bytes


@given(st.binary(max_size=100))
def test_bytes_are_read_back(content: bytes) -> None:
    assert Base64Bytes.from_text(str(Base64Bytes(content))) == Base64Bytes(content)


@pytest.mark.parametrize("text", ["!", "YQ", "YQ=", "YQ==YQ==", "YW\nJj", " YWJj", "YWJj ", "YW-_", "é"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not base64"):
        Base64Bytes.from_text(text)
