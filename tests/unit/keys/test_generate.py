from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

from bedrock.persist import write_new
from keys.certificates import read_certificate
from keys.check import check
from keys.errors import KeyExistsError, MissingKeyError, PassphraseError
from keys.generate import Material, init, make_material, write_material
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.private import is_encrypted
from keys.roles import BootRole, Profile, TufRole
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class PowerCutError(BaseException):
    """Not an Exception, so that no clean-up for errors runs."""


@pytest.fixture(scope="module")
def material() -> Material:
    return make_material(Profile.DEV, None, now=NOW)


def test_private_files_are_0600_in_a_0700_folder(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.glob("*.pem")} == {0o600}
    assert len(list(folder.glob("*.pem"))) == 10


@pytest.mark.parametrize("umask", [0o000, 0o277])
def test_umask_decides_nothing(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "keys"
    before = os.umask(umask)
    try:
        init(folder, Profile.DEV, NoPassphrase())
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.glob("*.pem")} == {0o600}


def test_empty_folder_is_used_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    init(folder, Profile.DEV, NoPassphrase())
    assert mode(folder) == 0o700


def test_dev_root_is_one_of_one_and_unencrypted(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    root = Keyring.load(folder).role(TufRole.ROOT)
    assert (root.threshold, len(root.keys)) == (1, 1)
    assert not any(is_encrypted(path.read_bytes()) for path in folder.glob("*.pem"))


def test_production_root_is_two_of_three_and_everything_is_encrypted(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    keyring = Keyring.load(folder)
    assert (keyring.role(TufRole.ROOT).threshold, len(keyring.role(TufRole.ROOT).keys)) == (2, 3)
    assert {len(keys.keys) for role, keys in keyring.tuf.items() if role is not TufRole.ROOT} == {1}
    assert all(is_encrypted(path.read_bytes()) for path in folder.glob("*.pem"))


def test_every_role_has_a_key_of_its_own(tmp_path: Path) -> None:
    keyring = Keyring.load(production_folder(tmp_path))
    ids = [key.keyid for keys in keyring.tuf.values() for key in keys.keys]
    assert len(set(ids)) == len(ids) == 8


def test_certificates_are_rsa_2048_self_signed_and_named(tmp_path: Path) -> None:
    keyring = init(tmp_path / "keys", Profile.PRODUCTION, NoPassphrase(), now=NOW)
    names = {}
    for role in BootRole:
        certificate = read_certificate(keyring.boot_key(role).certificate)
        certificate.verify_directly_issued_by(certificate)
        public = certificate.public_key()
        assert isinstance(public, RSAPublicKey)
        assert public.key_size == 2048
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert certificate.not_valid_before_utc < NOW
        assert certificate.not_valid_after_utc - NOW == timedelta(days=3650)
        names[role] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert names[BootRole.DB] == "Twinhull Image Signing Key (production)"
    assert len(set(names.values())) == 4


def test_fresh_keys_have_no_findings(tmp_path: Path) -> None:
    assert check(dev_folder(tmp_path / "a")) == ()
    assert check(production_folder(tmp_path / "b"), passphrase=FixedPassphrase(PASSPHRASE)) == ()


@pytest.mark.parametrize("profile", list(Profile))
def test_existing_keys_are_never_overwritten(tmp_path: Path, profile: Profile) -> None:
    folder = dev_folder(tmp_path)
    before = contents(folder)
    with pytest.raises(KeyExistsError, match="already holds keys"):
        init(folder, profile, NoPassphrase())
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["root-1.pem", ".hidden", "notes.txt"])
def test_folder_with_anything_in_it_is_left_alone(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / name).write_text("mine")
    with pytest.raises(KeyExistsError, match=name):
        init(tmp_path, Profile.DEV, NoPassphrase())
    assert contents(tmp_path) == {name: b"mine"}
    assert mode(tmp_path) == 0o755


def test_file_in_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "keys"
    target.write_text("mine")
    with pytest.raises(KeyExistsError, match="is a file"):
        init(target, Profile.DEV, NoPassphrase())
    assert target.read_text() == "mine"


def test_key_that_appears_meanwhile_is_left_alone(tmp_path: Path, material: Material) -> None:
    folder = tmp_path / "keys"

    def racing(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == "db.pem":
            path.write_text("theirs")
        write_new(path, data, mode=mode)

    with pytest.raises(KeyExistsError, match=r"db\.pem"):
        write_material(folder, material, write=racing)
    assert contents(folder) == {"db.pem": b"theirs"}


def test_full_disk_leaves_nothing_behind(tmp_path: Path, material: Material) -> None:
    def full(path: Path, data: bytes, *, mode: int) -> None:
        write_new(path, data[:10] if path.name == "PK.pem" else data, mode=mode)
        if path.name == "PK.pem":
            raise OSError(28, "No space left on device", str(path))

    with pytest.raises(OSError, match="No space left"):
        write_material(tmp_path / "keys", material, write=full)
    assert contents(tmp_path / "keys") == {}


def test_cut_at_each_write_leaves_no_keyring_that_loads(tmp_path: Path, material: Material) -> None:
    assert len(material.files) == len(contents(dev_folder(tmp_path)))
    for allowed in range(len(material.files)):
        folder = tmp_path / f"cut-{allowed}"
        left = allowed

        def cut(path: Path, data: bytes, *, mode: int) -> None:
            nonlocal left
            if left == 0:
                raise PowerCutError
            left -= 1
            write_new(path, data, mode=mode)

        with pytest.raises(PowerCutError):
            write_material(folder, material, write=cut)
        assert len(contents(folder)) == allowed
        assert KEYRING_FILE not in contents(folder)
        with pytest.raises(MissingKeyError):
            Keyring.load(folder)


def test_half_made_folder_is_not_made_whole_silently(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / KEYRING_FILE).unlink()
    before = contents(folder)
    with pytest.raises(KeyExistsError) as caught:
        init(folder, Profile.DEV, NoPassphrase())
    assert caught.value.hints
    assert contents(folder) == before


def test_empty_passphrase_makes_no_unencrypted_keys(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match="is empty"):
        init(tmp_path / "keys", Profile.DEV, FixedPassphrase("", origin="VARIABLE"))
    assert not (tmp_path / "keys").exists()
