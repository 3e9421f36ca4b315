from __future__ import annotations

import json
from typing import Any

import pytest

from updater.documents.role_keys import role_key_problems

ONE = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "aa" * 32}}
TWO = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "bb" * 32}}


def root(keys: dict[str, Any], **role: Any) -> bytes:
    return json.dumps({"signed": {"keys": keys, "roles": {"root": role}}}).encode()


def targets(keys: dict[str, Any], **role: Any) -> bytes:
    delegations = {"keys": keys, "roles": [{"name": "releases", **role}]}
    return json.dumps({"signed": {"delegations": delegations}}).encode()


@pytest.mark.parametrize("made", [root, targets])
def test_one_public_key_under_two_ids_is_found(made: Any) -> None:
    good = made({"1": ONE, "2": TWO}, keyids=["1", "2"], threshold=2)
    assert role_key_problems(good) == ()
    (problem,) = role_key_problems(made({"1": ONE, "2": ONE}, keyids=["1", "2"], threshold=2))
    assert "one public key under two ids, 1 and 2" in problem


@pytest.mark.parametrize("threshold", [True, "1", None, 1.0])
def test_a_threshold_that_is_not_a_number_is_found(threshold: Any) -> None:
    (problem,) = role_key_problems(root({"1": ONE}, keyids=["1"], threshold=threshold))
    assert repr(threshold) in problem


def test_a_document_that_delegates_nothing_has_no_problems() -> None:
    assert role_key_problems(b'{"signed": {"delegations": null}}') == ()


@pytest.mark.parametrize("raw", [b"junk", b"[]", b"{}", b'{"signed": 1}'])
def test_what_is_no_signed_document_is_found(raw: bytes) -> None:
    assert role_key_problems(raw)
