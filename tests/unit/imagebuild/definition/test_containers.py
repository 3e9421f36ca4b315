from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.containers import SignaturePolicy
from imagebuild.definition.image import load_definition

PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
SIGNED = "signed: [{scope: registry.test:5000/web, key: keys/web.pub}]"


def policy_of(folder: Path, text: str, key: str | None = PUBLIC_KEY) -> SignaturePolicy:
    (folder / "keys").mkdir()
    if key is not None:
        (folder / "keys/web.pub").write_text(key)
    (folder / "image.yaml").write_text(f"id: host\ncontainers: {{policy: {{{text}}}}}\n")
    policy = load_definition(folder).containers.policy
    assert policy is not None
    return policy


def test_what_no_line_names_is_refused_and_what_is_named_must_be_signed(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, f"default: reject, {SIGNED}, accept: [registry.test/open]")
    document = json.loads(policy.policy_json())
    assert document["default"] == [{"type": "reject"}]
    (requirement,) = document["transports"]["docker"]["registry.test:5000/web"]
    assert requirement["type"] == "sigstoreSigned"
    assert requirement["keyPath"] == policy.signed[0].key_path == "/etc/containers/keys/registry.test_5000_web.pub"
    assert document["transports"]["docker"]["registry.test/open"] == [{"type": "insecureAcceptAnything"}]


def test_without_a_word_on_it_other_images_are_accepted(tmp_path: Path) -> None:
    document = json.loads(policy_of(tmp_path, SIGNED).policy_json())
    assert document["default"] == [{"type": "insecureAcceptAnything"}]


def test_a_missing_key_and_what_is_no_public_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"containers\.policy\.signed\[0\]\.key: .*web\.pub is not a file"):
        policy_of(tmp_path, SIGNED, key=None)
    (tmp_path / "keys/web.pub").write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    with pytest.raises(DocumentError, match="does not begin with -----BEGIN PUBLIC KEY"):
        load_definition(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("default: maybe", "default"),
        ("accept: ['https://registry.test/x']", "a registry, a repository or an image"),
        ("signed: [{scope: registry.test, key: /etc/key}]", "inside the definition's folder"),
        ("signed: [{scope: registry.test, key: ../key}]", "inside the definition's folder"),
        ("signed: [{scope: registry.test, key: keys/web.pub}], accept: [registry.test]", "given twice"),
    ],
)
def test_a_policy_that_says_nothing_clear_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        policy_of(tmp_path, text)
