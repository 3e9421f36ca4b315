"""Keys in tokens: SoftHSM's module signs, and the public halves in a keyring verify."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click import UsageError
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keys.certificates import certificate_pem, self_signed
from keys.cli import keys
from keys.errors import BadKeyError, KeyUriError, MissingKeyError, PassphraseError, TokenError
from keys.keyring import (
    KEYRING_FILE,
    BootKeyEntry,
    BootSection,
    Keyring,
    KeyringDocument,
    TufKeyEntry,
    TufRoleEntry,
    TufSection,
    keyring_text,
)
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.public import public_text, tuf_public
from keys.roles import BootRole, Profile, TufRole
from keys.signers import open_boot_signer, open_signer, open_signers
from keys.tokens import MODULE_VARIABLE
from keys.uri import KeyUri
from tests.fakes.boot_signatures import boot_signature_holds
from tests.fakes.clock import START
from tests.fakes.keyrings import dev_folder
from tests.fakes.passphrases import RecordingPassphrase
from tests.fakes.soft_tokens import MODULE, PIN, SoftTokens

RIGHT = FixedPassphrase(PIN)
KINDS: dict[str, Any] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftTokens]:
    made = SoftTokens(tmp_path_factory.mktemp("softhsm"))
    made.prepare()
    for label in ("release", "closed", "twin", "twin", "leaving", "quiet"):
        made.make(label)
    for number, (name, private) in enumerate(KINDS.items(), start=1):
        made.put("release", name, f"0{number}", private)
    made.put("release", "rsa", "77", rsa.generate_private_key(65537, 2048))
    for token in ("closed", "leaving"):
        made.put(token, "p256", "02", KINDS["p256"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(made.configuration))
        yield made


def uri_of(tokens: SoftTokens, kind: str) -> str:
    return tokens.uri("release", f"object={kind};id=%0{list(KINDS).index(kind) + 1}")


def public_of(kind: str) -> Any:
    return tuf_public(public_text(KINDS[kind].public_key()))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_key_signs_and_verifies(kind: str, tokens: SoftTokens) -> None:
    signer = open_signer(uri_of(tokens, kind), public_of(kind), RIGHT)
    signature = signer.sign(b"data")
    public_of(kind).verify_signature(signature, b"data")


def keyring_with(folder: Path, tokens: SoftTokens) -> Keyring:
    """Root keys of two kinds in a token, and db in it."""
    folder.mkdir()
    private = KINDS["rsa"]
    certificate = self_signed(private, common_name="db", now=START, lifetime=timedelta(days=365))
    (folder / "db.crt").write_bytes(certificate_pem(certificate))
    entries = []
    for kind in ("ed25519", "p256"):
        public = public_text(KINDS[kind].public_key())
        entries.append(TufKeyEntry(tuf_public(public).keyid, public, KeyUri.from_text(uri_of(tokens, kind))))
    boot = BootSection(db=BootKeyEntry(KeyUri.from_text(uri_of(tokens, "rsa")), "db.crt"))
    document = KeyringDocument(1, Profile.DEV, TufSection(root=TufRoleEntry(2, tuple(entries))), boot)
    (folder / KEYRING_FILE).write_text(keyring_text(document))
    return Keyring.load(folder)


def test_a_role_and_a_boot_key_in_one_token_are_opened_together(tmp_path: Path, tokens: SoftTokens) -> None:
    keyring = keyring_with(tmp_path / "keys", tokens)
    signers = open_signers(keyring, TufRole.ROOT, RIGHT)
    boot = open_boot_signer(keyring, BootRole.DB, RIGHT)
    for signer in signers:
        signer.public_key.verify_signature(signer.sign(b"root"), b"root")
    signature = boot.sign(b"attributes")
    assert signature == boot.sign(b"attributes")
    assert boot_signature_holds(boot.certificate, signature, b"attributes")


def test_another_key_than_the_keyring_names_is_refused(tokens: SoftTokens) -> None:
    with pytest.raises(BadKeyError, match="not the private half"):
        open_signer(
            uri_of(tokens, "p256"), tuf_public(public_text(ec.generate_private_key(ec.SECP256R1()).public_key())), RIGHT
        )


def test_a_wrong_pin_says_what_the_token_says_and_is_not_tried_again(tokens: SoftTokens) -> None:
    wrong = RecordingPassphrase("0000-0000")
    with pytest.raises(
        PassphraseError, match=r"the PIN does not open the token closed: .*few tries are left"
    ) as caught:
        open_signer(tokens.uri("closed", "object=p256"), public_of("p256"), wrong)
    assert wrong.subjects == ["the token closed"]
    assert "0000" not in str(caught.value)


def test_no_pin_is_an_error_with_the_ways_to_give_one(tokens: SoftTokens) -> None:
    with pytest.raises(PassphraseError, match="the token closed needs a passphrase") as caught:
        open_signer(tokens.uri("closed", "object=p256"), public_of("p256"), NoPassphrase())
    assert "--passphrase-file" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("token", "conditions", "expected", "says"),
    [
        ("nowhere", "object=p256", MissingKeyError, r"token of .* is not here \(token nowhere\)"),
        ("twin", "object=p256", KeyUriError, r"several tokens match .*serial"),
        ("release", "object=nothing", MissingKeyError, r"token release holds no private key with label nothing"),
        ("release", "object=rsa", KeyUriError, r"several keys of the token release match .*id 04.*id 77|id 77.*id 04"),
        ("quiet", "id=%01", MissingKeyError, "token quiet holds no private key with id 01"),
    ],
)
def test_what_is_not_there_or_not_one_is_named(
    token: str, conditions: str, expected: type[Exception], says: str, tokens: SoftTokens
) -> None:
    with pytest.raises(expected, match=says):
        open_signer(tokens.uri(token, conditions), public_of("rsa"), RIGHT)


def test_a_module_is_named_by_the_environment_and_missing_ones_are_errors(
    tmp_path: Path, tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = "pkcs11:token=release;object=p256"
    with pytest.raises(MissingKeyError, match="no PKCS #11 module is named") as caught:
        open_signer(bare, public_of("p256"), RIGHT)
    assert MODULE_VARIABLE in caught.value.hints[0]
    monkeypatch.setenv(MODULE_VARIABLE, str(MODULE))
    assert open_signer(bare, public_of("p256"), RIGHT).sign(b"x")
    monkeypatch.setenv(MODULE_VARIABLE, str(tmp_path / "gone.so"))
    with pytest.raises(MissingKeyError, match=r"there is no PKCS #11 module at .*gone\.so"):
        open_signer(bare, public_of("p256"), RIGHT)
    (tmp_path / "gone.so").write_bytes(b"text")
    with pytest.raises(MissingKeyError, match=r"gone\.so cannot be used as a PKCS #11 module"):
        open_signer(bare, public_of("p256"), RIGHT)


def test_the_pin_is_in_no_error_and_no_repr(tmp_path: Path, tokens: SoftTokens) -> None:
    signer = open_signer(uri_of(tokens, "p256"), public_of("p256"), RIGHT)
    boot = open_boot_signer(keyring_with(tmp_path / "keys", tokens), BootRole.DB, RIGHT)
    assert PIN not in f"{signer!r} {vars(signer)!r} {boot!r}"


def run(*words: str | Path) -> Result:
    arguments = [str(word) for word in words]
    return CliRunner().invoke(keys, arguments, env={"TWINHULL_KEYS_PASSPHRASE": PIN}, standalone_mode=False)


def test_a_role_is_given_a_key_by_its_uri_alone(tmp_path: Path, tokens: SoftTokens) -> None:
    folder = dev_folder(tmp_path)
    done = run("rotate", folder, "channels", "--uri", uri_of(tokens, "p256"))
    assert done.exception is None
    key = Keyring.load(folder).role(TufRole.CHANNELS).keys[0]
    assert key.keyid == public_of("p256").keyid
    signer = open_signers(Keyring.load(folder), TufRole.CHANNELS, RIGHT)[0]
    key.public.verify_signature(signer.sign(b"data"), b"data")
    again = run("add", folder, "channels", "--uri", "file:elsewhere.pem")
    assert isinstance(again.exception, UsageError)


def test_secure_boot_is_given_a_key_in_a_token_and_a_certificate_that_it_signed(
    tmp_path: Path, tokens: SoftTokens
) -> None:
    folder = dev_folder(tmp_path)
    old = (folder / "db.crt").read_bytes()
    done = run("boot-key", folder, "db", "--uri", uri_of(tokens, "rsa"))
    assert done.exception is None
    boot = open_boot_signer(Keyring.load(folder), BootRole.DB, RIGHT)
    assert boot_signature_holds(boot.certificate, boot.sign(b"data"), b"data")
    boot.certificate.verify_directly_issued_by(boot.certificate)
    assert (folder / "db.crt").read_bytes() == old
    assert (folder / "db-2.crt").is_file()
    given = run("boot-key", folder, "KEK", "--uri", uri_of(tokens, "rsa"), "--certificate", folder / "db-2.crt")
    assert given.exception is None
    assert Keyring.load(folder).boot_key(BootRole.KEK).certificate.name == "KEK-2.crt"


@pytest.mark.parametrize(("kind", "certificate"), [("p256", None), ("rsa", "KEK.crt")])
def test_a_key_that_does_not_fit_secure_boot_changes_nothing(
    kind: str, certificate: str | None, tmp_path: Path, tokens: SoftTokens
) -> None:
    folder = dev_folder(tmp_path)
    before = (folder / KEYRING_FILE).read_text()
    words = ("--certificate", folder / certificate) if certificate else ()
    assert isinstance(run("boot-key", folder, "db", "--uri", uri_of(tokens, kind), *words).exception, BadKeyError)
    assert (folder / KEYRING_FILE).read_text() == before
    assert not (folder / "db-2.crt").exists()


def test_a_token_that_goes_away_is_an_error(tokens: SoftTokens) -> None:
    signer = open_signer(tokens.uri("leaving", "object=p256"), public_of("p256"), RIGHT)
    for path in sorted((tokens.folder / "tokens").glob("*/*")):
        if b"leaving" in path.read_bytes():
            for file in path.parent.iterdir():
                file.unlink()
            path.parent.rmdir()
            break
    with pytest.raises(TokenError, match="object=p256"):
        signer.sign(b"x")
