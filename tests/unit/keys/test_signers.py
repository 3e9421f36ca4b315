from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, SecretsHandler, SSlibKey

from keys.certificates import certificate_pem, self_signed
from keys.errors import BadKeyError, KeyUriError, MissingKeyError, PassphraseError, WrongModeError
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.roles import BootRole, TufRole
from keys.signers import open_boot_signer, open_signers
from tests.fakes.boot_signatures import boot_signature_holds
from tests.fakes.clock import START
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder
from tests.fakes.passphrases import RecordingPassphrase

RIGHT = FixedPassphrase(PASSPHRASE)
WRONG = FixedPassphrase("wrong")


def point(folder: Path, section: str, role: str, uri: str) -> Keyring:
    """The keyring of `folder` after the key of a role was moved to another URI."""
    value: dict[str, Any] = yaml.safe_load((folder / KEYRING_FILE).read_text())
    entry = value["tuf"][role]["keys"][0] if section == "tuf" else value["boot"][role]
    entry["uri"] = uri
    (folder / KEYRING_FILE).write_text(yaml.safe_dump(value))
    return Keyring.load(folder)


def test_signature_verifies_with_the_keyrings_public_key_only(tmp_path: Path) -> None:
    keyring = Keyring.load(dev_folder(tmp_path))
    (signer,) = open_signers(keyring, TufRole.RELEASES, NoPassphrase())
    signature = signer.sign(b"data")
    keyring.role(TufRole.RELEASES).keys[0].public.verify_signature(signature, b"data")
    with pytest.raises(UnverifiedSignatureError):
        keyring.role(TufRole.CHANNELS).keys[0].public.verify_signature(signature, b"data")


def test_unencrypted_key_asks_nobody(tmp_path: Path) -> None:
    source = RecordingPassphrase("x")
    open_signers(Keyring.load(dev_folder(tmp_path)), TufRole.TARGETS, source)
    assert source.subjects == []


def test_encrypted_key_opens_with_the_right_passphrase(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    source = RecordingPassphrase(PASSPHRASE)
    (signer,) = open_signers(Keyring.load(folder), TufRole.CHANNELS, source)
    assert signer.public_key == Keyring.load(folder).role(TufRole.CHANNELS).keys[0].public
    assert source.subjects == [str(folder / "channels-1.pem")]


def test_wrong_passphrase_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match=r"channels-1\.pem"):
        open_signers(Keyring.load(production_folder(tmp_path)), TufRole.CHANNELS, WRONG)


def test_missing_passphrase_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match=r"channels-1\.pem needs a passphrase and none"):
        open_signers(Keyring.load(production_folder(tmp_path)), TufRole.CHANNELS, NoPassphrase())


def test_all_reachable_production_root_keys_are_opened(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    assert len(open_signers(Keyring.load(folder), TufRole.ROOT, RIGHT)) == 3
    (folder / "root-2.pem").unlink()
    keyring = Keyring.load(folder)
    names = [signer.public_key.keyid for signer in open_signers(keyring, TufRole.ROOT, RIGHT)]
    root = keyring.role(TufRole.ROOT).keys
    assert names == [root[0].keyid, root[2].keyid]


def test_fewer_than_the_threshold_are_refused_with_role_uri_and_count(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    (folder / "root-1.pem").unlink()
    (folder / "root-3.pem").unlink()
    with pytest.raises(MissingKeyError) as caught:
        open_signers(Keyring.load(folder), TufRole.ROOT, RIGHT)
    text = str(caught.value)
    assert "role root" in text
    assert "1 of the 2" in text
    assert f"file:{folder}/root-1.pem" in text
    assert f"file:{folder}/root-3.pem" in text
    assert "root-2.pem" not in text


def test_at_most_stops_early_and_lets_holders_sign_in_turns(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    source = RecordingPassphrase(PASSPHRASE)
    assert len(open_signers(Keyring.load(folder), TufRole.ROOT, source, at_most=2)) == 2
    assert len(source.subjects) == 2
    (folder / "root-1.pem").unlink()
    (folder / "root-3.pem").unlink()
    assert len(open_signers(Keyring.load(folder), TufRole.ROOT, source, at_most=1)) == 1
    with pytest.raises(ValueError, match="at_most"):
        open_signers(Keyring.load(folder), TufRole.ROOT, source, at_most=0)


def test_role_without_its_private_half_cannot_sign_but_others_can(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "channels-1.pem").unlink()
    keyring = Keyring.load(folder)
    assert open_signers(keyring, TufRole.RELEASES, NoPassphrase())
    with pytest.raises(MissingKeyError, match="role channels"):
        open_signers(keyring, TufRole.CHANNELS, NoPassphrase())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_key_open_to_others_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    folder = dev_folder(tmp_path)
    (folder / "releases-1.pem").chmod(mode)
    with pytest.raises(WrongModeError, match=f"releases-1.pem has mode {mode:04o}") as caught:
        open_signers(Keyring.load(folder), TufRole.RELEASES, NoPassphrase())
    assert "chmod 600" in caught.value.hints[0]


def test_link_does_not_hide_the_mode_of_the_file(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    target = (folder / "releases-1.pem").rename(tmp_path / "elsewhere.pem")
    (folder / "releases-1.pem").symlink_to(target)
    assert open_signers(Keyring.load(folder), TufRole.RELEASES, NoPassphrase())
    target.chmod(0o644)
    with pytest.raises(WrongModeError):
        open_signers(Keyring.load(folder), TufRole.RELEASES, NoPassphrase())


def test_key_of_another_role_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "channels-1.pem").replace(folder / "releases-1.pem")
    with pytest.raises(BadKeyError, match=r"releases-1\.pem is not the private half"):
        open_signers(Keyring.load(folder), TufRole.RELEASES, NoPassphrase())


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.pem").replace(folder / "releases-1.pem")
    with pytest.raises(BadKeyError, match=r"releases-1\.pem"):
        open_signers(Keyring.load(folder), TufRole.RELEASES, NoPassphrase())


def test_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "releases-1.pem").write_text("hello")
    with pytest.raises(BadKeyError, match="holds no private key"):
        open_signers(Keyring.load(folder), TufRole.RELEASES, NoPassphrase())


def test_folder_or_pipe_in_place_of_a_key_is_missing_not_waited_for(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "releases-1.pem").unlink()
    os.mkfifo(folder / "releases-1.pem", 0o600)
    (folder / "channels-1.pem").unlink()
    (folder / "channels-1.pem").mkdir(mode=0o700)
    for role in (TufRole.RELEASES, TufRole.CHANNELS):
        with pytest.raises(MissingKeyError, match="not a regular file"):
            open_signers(Keyring.load(folder), role, NoPassphrase())


def test_unknown_scheme_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    keyring = point(dev_folder(tmp_path), "tuf", "releases", "carrier-pigeon:coop/3")
    with pytest.raises(KeyUriError, match=r"carrier-pigeon: URIs \(known: .*file"):
        open_signers(keyring, TufRole.RELEASES, NoPassphrase())


class TokenSigner(CryptoSigner):
    """A made-up token: it holds one key and wants a PIN."""

    held: Path

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> TokenSigner:
        assert isinstance(public_key, SSlibKey)
        assert secrets_handler is not None
        if secrets_handler("PIN of the token") != "1234":
            raise OSError("the token refused the PIN")
        return cls(load_pem_private_key(cls.held.read_bytes(), None), public_key)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    folder = dev_folder(tmp_path)
    TokenSigner.held = (folder / "releases-1.pem").rename(tmp_path / "inside-the-token")
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "token", TokenSigner)
    return point(folder, "tuf", "releases", "token:slot=1")


def test_another_scheme_signs_without_callers_knowing(token: Keyring) -> None:
    (signer,) = open_signers(token, TufRole.RELEASES, FixedPassphrase("1234"))
    token.role(TufRole.RELEASES).keys[0].public.verify_signature(signer.sign(b"data"), b"data")


def test_failure_of_another_signer_is_our_error_with_its_uri(token: Keyring) -> None:
    with pytest.raises(KeyUriError, match="token:slot=1 could not be opened: the token refused the PIN"):
        open_signers(token, TufRole.RELEASES, FixedPassphrase("0000"))
    with pytest.raises(PassphraseError, match="PIN of the token"):
        open_signers(token, TufRole.RELEASES, NoPassphrase())


def test_token_with_another_key_is_refused(token: Keyring) -> None:
    TokenSigner.held = token.folder / "channels-1.pem"
    with pytest.raises(BadKeyError, match="token:slot=1"):
        open_signers(token, TufRole.RELEASES, FixedPassphrase("1234"))


def test_boot_key_signs_for_its_certificate(tmp_path: Path) -> None:
    signer = open_boot_signer(Keyring.load(dev_folder(tmp_path)), BootRole.DB, NoPassphrase())
    signature = signer.sign(b"data")
    assert signature == signer.sign(b"data")
    assert boot_signature_holds(signer.certificate, signature, b"data")
    assert not boot_signature_holds(signer.certificate, signature, b"date")


def test_encrypted_boot_key_leaves_no_file(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    signer = open_boot_signer(Keyring.load(folder), BootRole.KEK, RIGHT)
    assert boot_signature_holds(signer.certificate, signer.sign(b"data"), b"data")
    assert sorted(tmp_path.rglob("*")) == before


def test_boot_key_that_firmware_would_not_accept_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    private = generate_private_key(65537, 1024)  # noqa: S505 - weak is the point
    certificate = self_signed(private, common_name="weak", now=START, lifetime=timedelta(days=1))
    (folder / "db.crt").write_bytes(certificate_pem(certificate))
    with pytest.raises(BadKeyError, match="is not RSA of 2048 to 4096 bits"):
        open_boot_signer(Keyring.load(folder), BootRole.DB, NoPassphrase())


def test_boot_key_with_wrong_missing_or_no_passphrase_is_refused(tmp_path: Path) -> None:
    keyring = Keyring.load(production_folder(tmp_path))
    for source in (WRONG, NoPassphrase(), FixedPassphrase("")):
        with pytest.raises(PassphraseError, match=r"db\.pem"):
            open_boot_signer(keyring, BootRole.DB, source)


def test_boot_key_must_belong_to_its_certificate(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "KEK.crt").replace(folder / "db.crt")
    with pytest.raises(BadKeyError, match=r"db\.pem is not the private half of the key"):
        open_boot_signer(Keyring.load(folder), BootRole.DB, NoPassphrase())


def test_missing_boot_files_are_named(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.pem").unlink()
    (folder / "PK.crt").unlink()
    (folder / "KEK.crt").write_text("nothing")
    keyring = Keyring.load(folder)
    with pytest.raises(MissingKeyError, match=r"db\.pem"):
        open_boot_signer(keyring, BootRole.DB, NoPassphrase())
    with pytest.raises(MissingKeyError, match=r"PK\.crt"):
        open_boot_signer(keyring, BootRole.PK, NoPassphrase())
    with pytest.raises(BadKeyError, match=r"KEK\.crt"):
        open_boot_signer(keyring, BootRole.KEK, NoPassphrase())


def test_boot_key_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.pem").chmod(0o640)
    with pytest.raises(WrongModeError, match=r"db\.pem"):
        open_boot_signer(Keyring.load(folder), BootRole.DB, NoPassphrase())


def test_boot_key_of_unknown_scheme_is_refused(tmp_path: Path) -> None:
    keyring = point(dev_folder(tmp_path), "boot", "db", "carrier-pigeon:coop")
    with pytest.raises(KeyUriError, match=r"no signer for carrier-pigeon: URIs \(known: .*file"):
        open_boot_signer(keyring, BootRole.DB, NoPassphrase())
