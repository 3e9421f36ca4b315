from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bedrock.errors import DocumentError
from keys.changes import ForeignKey, add, revoke, revoke_retiring, rotate, set_threshold, what_follows
from keys.check import check
from keys.cli import keys
from keys.errors import MissingKeyError, UnfitKeyChangeError
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.private import is_encrypted
from keys.roles import TufRole
from keys.signers import open_signers
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder

TIMESTAMP = TufRole.TIMESTAMP


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dev_folder(tmp_path)


def ids(folder: Path, role: TufRole) -> tuple[list[str], list[str], list[str]]:
    """The keys of a role, those that retire, those that are revoked."""
    entry = Keyring.load(folder).role(role)
    return [k.keyid for k in entry.keys], [k.keyid for k in entry.retiring], list(entry.revoked)


def test_a_rotated_role_has_a_new_key_and_the_old_one_signs_along(folder: Path) -> None:
    ((old,), _, _) = ids(folder, TIMESTAMP)
    rotate(folder, TIMESTAMP, NoPassphrase())
    (new,), retiring, revoked = ids(folder, TIMESTAMP)
    assert new != old
    assert (retiring, revoked) == ([old], [])
    assert stat.S_IMODE((folder / "timestamp-2.pem").stat().st_mode) == 0o600
    signers = open_signers(Keyring.load(folder), TIMESTAMP, NoPassphrase())
    assert [signer.public_key.keyid for signer in signers] == [new, old]
    assert check(folder) == ()


def test_all_three_root_keys_are_rotated_and_encrypted(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    rotate(folder, TufRole.ROOT, FixedPassphrase(PASSPHRASE))
    new, retiring, _ = ids(folder, TufRole.ROOT)
    assert len({*new, *retiring}) == 6
    assert Keyring.load(folder).role(TufRole.ROOT).threshold == 2
    assert is_encrypted((folder / "root-6.pem").read_bytes())


def test_a_name_that_a_key_elsewhere_has_is_not_used_again(folder: Path) -> None:
    (folder / "timestamp-1.pem").unlink()
    rotate(folder, TIMESTAMP, NoPassphrase())
    assert not (folder / "timestamp-1.pem").exists()
    assert (folder / "timestamp-2.pem").exists()


def test_a_revoked_key_goes_for_good(folder: Path) -> None:
    ((old,), _, _) = ids(folder, TIMESTAMP)
    rotate(folder, TIMESTAMP, NoPassphrase())
    assert revoke(folder, old[:8]) is TIMESTAMP
    assert ids(folder, TIMESTAMP)[1:] == ([], [old])
    assert (folder / "timestamp-1.pem").exists()
    with pytest.raises(MissingKeyError):
        revoke(folder, old)


def test_a_role_keeps_enough_keys(folder: Path) -> None:
    ((only,), _, _) = ids(folder, TIMESTAMP)
    with pytest.raises(UnfitKeyChangeError, match="only 0 would be left"):
        revoke(folder, only)
    with pytest.raises(UnfitKeyChangeError, match="2 of 1 keys"):
        set_threshold(folder, TIMESTAMP, 2)
    add(folder, TIMESTAMP, NoPassphrase())
    set_threshold(folder, TIMESTAMP, 2)
    assert Keyring.load(folder).role(TIMESTAMP).threshold == 2
    with pytest.raises(UnfitKeyChangeError, match="only 1 would be left"):
        revoke(folder, only)


def test_keys_that_retire_are_revoked_together(folder: Path) -> None:
    for role in (TIMESTAMP, TufRole.CHANNELS):
        rotate(folder, role, NoPassphrase())
    assert invoke("revoke", folder, "--retiring", "--json").exit_code == 0
    for role in (TIMESTAMP, TufRole.CHANNELS):
        keys, retiring, revoked = ids(folder, role)
        assert (len(keys), retiring, len(revoked)) == (1, [], 1)
    assert revoke_retiring(folder) == ()
    assert invoke("revoke", folder).exit_code == 2
    assert invoke("revoke", folder, "x", "--retiring").exit_code == 2


def test_a_key_is_revoked_by_the_name_of_its_file(folder: Path) -> None:
    add(folder, TIMESTAMP, NoPassphrase())
    (first, _), _, _ = ids(folder, TIMESTAMP)
    assert revoke(folder, "timestamp-1.pem") is TIMESTAMP
    assert ids(folder, TIMESTAMP)[2] == [first]


@pytest.mark.parametrize("keyid", ["", "zz"])
def test_an_id_that_names_no_key_or_several_is_refused(folder: Path, keyid: str) -> None:
    before = (folder / KEYRING_FILE).read_bytes()
    with pytest.raises(MissingKeyError):
        revoke(folder, keyid)
    assert (folder / KEYRING_FILE).read_bytes() == before


def pem_of_new_key(path: Path) -> Path:
    key = generate_private_key(SECP256R1()).public_key()
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(keys, [str(word) for word in words])


def test_a_key_made_elsewhere_is_added_once(folder: Path, tmp_path: Path) -> None:
    public = pem_of_new_key(tmp_path / "card.pub")
    words = (folder, "channels", "--public", public, "--uri", "pkcs11:token=card;object=channels")
    done = invoke("rotate", *words)
    assert done.exit_code == 0
    assert "pkcs11:token=card;object=channels" in done.stdout
    assert "(retiring)" in done.stdout
    assert "a new targets must be signed" in done.stderr
    # The same public key does not count twice, under whatever id or role.
    for role in ("channels", "releases"):
        again = invoke("add", folder, role, "--public", public, "--uri", "pkcs11:token=other;object=x")
        assert isinstance(again.exception, UnfitKeyChangeError)
    assert invoke("add", folder, "channels", "--public", public).exit_code == 2


def test_a_revoked_key_cannot_come_back(folder: Path, tmp_path: Path) -> None:
    public = pem_of_new_key(tmp_path / "card.pub")
    words = (folder, "channels", "--public", public, "--uri", "pkcs11:token=card;object=channels")
    assert invoke("add", *words).exit_code == 0
    (_, new), _, _ = ids(folder, TufRole.CHANNELS)
    assert invoke("revoke", folder, new).exit_code == 0
    assert "was revoked" in str(invoke("add", *words).exception)


def test_a_key_that_must_not_sign_is_refused(folder: Path) -> None:
    weak = generate_rsa(65537, 1024).public_key()  # noqa: S505 - weak on purpose
    with pytest.raises(UnfitKeyChangeError, match="2048 bits"):
        add(folder, TIMESTAMP, NoPassphrase(), foreign=ForeignKey(weak, "file:weak.pem"))


def test_one_foreign_key_does_not_replace_several(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    key = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(UnfitKeyChangeError, match="3 keys"):
        rotate(folder, TufRole.ROOT, NoPassphrase(), foreign=ForeignKey(key, "file:x.pem"))


def test_what_follows_names_what_must_be_signed() -> None:
    assert {role: "new root" in what_follows(role) for role in TufRole} == {
        TufRole.ROOT: True,
        TufRole.TARGETS: True,
        TufRole.SNAPSHOT: True,
        TufRole.TIMESTAMP: True,
        TufRole.RELEASES: False,
        TufRole.CHANNELS: False,
    }


def test_a_keyring_with_a_key_that_is_both_retiring_and_revoked_is_refused(folder: Path) -> None:
    ((old,), _, _) = ids(folder, TIMESTAMP)
    rotate(folder, TIMESTAMP, NoPassphrase())
    path = folder / KEYRING_FILE
    text = path.read_text()
    assert "retiring:" in text
    path.write_text(text.replace("    retiring:", f"    revoked: ['{old}']\n    retiring:"))
    with pytest.raises(DocumentError, match="listed twice"):
        Keyring.load(folder)


def test_threshold_by_command(folder: Path) -> None:
    assert invoke("add", folder, "root").exit_code == 0
    done = invoke("threshold", folder, "root", "2")
    assert "2 of 2 must sign" in done.stdout
    assert "a new root must be signed" in done.stderr
