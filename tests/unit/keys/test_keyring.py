from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bedrock.errors import DocumentError
from keys.errors import MissingKeyError
from keys.keyring import KEYRING_FILE, Keyring
from keys.roles import BootRole, Profile, TufRole
from tests.fakes.keyrings import dev_folder


def document(folder: Path) -> dict[str, Any]:
    value = yaml.safe_load((folder / KEYRING_FILE).read_text())
    assert isinstance(value, dict)
    return value


def rewrite(folder: Path, value: object) -> None:
    (folder / KEYRING_FILE).write_text(yaml.safe_dump(value))


def refusal(folder: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        Keyring.load(folder)
    return str(caught.value)


def test_dev_keyring_names_every_role(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    keyring = Keyring.load(folder)
    assert keyring.profile is Profile.DEV
    assert set(keyring.tuf) == set(TufRole)
    assert set(keyring.boot) == set(BootRole)
    assert keyring.tuf[TufRole.ROOT].keys[0].uri == f"file:{folder}/root-1.pem"
    assert keyring.boot[BootRole.DB].certificate == folder / "db.crt"


def test_paths_do_not_depend_on_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    keyring = Keyring.load(Path("keys"))
    monkeypatch.chdir("/")
    assert keyring.boot[BootRole.PK].certificate.is_file()
    assert keyring.role(TufRole.CHANNELS).keys[0].uri == f"file:{tmp_path}/keys/channels-1.pem"


def test_keyid_is_the_one_tuf_computes(tmp_path: Path) -> None:
    key = Keyring.load(dev_folder(tmp_path)).role(TufRole.RELEASES).keys[0]
    assert key.keyid == key.public.keyid
    assert (key.public.keytype, key.public.scheme) == ("ed25519", "ed25519")


def test_private_files_may_be_missing(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    for private in folder.glob("*.pem"):
        private.unlink()
    assert set(Keyring.load(folder).tuf) == set(TufRole)


def test_roles_may_be_absent(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = document(folder)
    value["tuf"] = {"channels": value["tuf"]["channels"]}
    del value["boot"]
    rewrite(folder, value)
    keyring = Keyring.load(folder)
    assert set(keyring.tuf) == {TufRole.CHANNELS}
    with pytest.raises(MissingKeyError, match="role releases"):
        keyring.role(TufRole.RELEASES)
    with pytest.raises(MissingKeyError, match="no boot key db"):
        keyring.boot_key(BootRole.DB)


def test_folder_without_keyring_is_refused_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingKeyError, match=str(tmp_path / KEYRING_FILE)) as caught:
        Keyring.load(tmp_path)
    assert "twinhull keys init" in caught.value.hints[0]


def test_all_errors_are_reported_at_once_with_their_paths(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = document(folder)
    value["profile"] = "prod"
    value["tuf"]["root"]["threshold"] = "1"
    value["tuf"]["mirrors"] = {}
    value["tuf"]["targets"]["keys"][0]["public"] = "ZZ"
    value["boot"]["PK"]["uri"] = "PK.pem"
    rewrite(folder, value)
    text = refusal(folder)
    assert str(folder / KEYRING_FILE) in text
    for path in ("profile:", "tuf.root.threshold:", "tuf.mirrors:", "tuf.targets.keys", "boot.PK.uri:"):
        assert path in text


def test_threshold_that_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = document(folder)
    value["tuf"]["root"]["threshold"] = 2
    rewrite(folder, value)
    assert "tuf.root: threshold 2 can never be reached with 1 keys" in refusal(folder)


@pytest.mark.parametrize("threshold", [0, -1, 65])
def test_threshold_out_of_range_is_refused(tmp_path: Path, threshold: int) -> None:
    folder = dev_folder(tmp_path)
    value = document(folder)
    value["tuf"]["root"]["threshold"] = threshold
    rewrite(folder, value)
    assert "tuf.root.threshold" in refusal(folder)


def test_key_listed_twice_does_not_count_twice(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = document(folder)
    root = value["tuf"]["root"]
    value["tuf"]["root"] = {"threshold": 2, "keys": [root["keys"][0], dict(root["keys"][0])]}
    rewrite(folder, value)
    assert "listed twice" in refusal(folder)


def test_keyid_of_another_key_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = document(folder)
    value["tuf"]["root"]["keys"][0]["public"] = value["tuf"]["targets"]["keys"][0]["public"]
    rewrite(folder, value)
    assert "does not belong to this public key" in refusal(folder)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    rewrite(folder, {**document(folder), "format": 2})
    assert "format: must be from 1 to 1" in refusal(folder)


def test_keyring_holds_no_private_key(tmp_path: Path) -> None:
    assert "PRIVATE" not in (dev_folder(tmp_path) / KEYRING_FILE).read_text()
