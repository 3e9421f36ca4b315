"""The one interface through which everything is signed.

A caller names a role; this module finds the key and its private half and knows how to open it, by the
scheme of the key's URI.  TUF signers come from securesystemslib's registry (`SIGNER_FOR_URI_SCHEME`), to which `file:`
is added; Secure Boot keys from `BOOT_OPENERS`.  Another scheme is one more entry in either, and no caller changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.exceptions import Error as SigningLibraryError
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, SecretsHandler, Signer, SSlibKey

from bedrock.persist import write_new
from keys.certificates import read_certificate
from keys.errors import BadKeyError, KeysError, KeyUriError, MissingKeyError
from keys.keyring import BootKey, Keyring
from keys.memory import memory_folder
from keys.passphrase import PassphraseSource, demanded
from keys.private import PRIVATE_MODE, is_encrypted, parse_private, private_pem, public_bytes, read_private
from keys.roles import BootRole, TufRole
from keys.uri import FILE, parse_uri


class FileSigner(CryptoSigner):
    """Signs with a private key in a PEM file, encrypted or not, whose mode lets nobody else read it."""

    SCHEME = FILE

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> FileSigner:
        """Open the file of a `file:` URI.

        Raises:
            MissingKeyError: The file cannot be read.
            WrongModeError: Others may read it.
            PassphraseError: The passphrase is missing or wrong.
            BadKeyError: It holds no key, or not the private half of `public_key`.
        """
        path = parse_uri(priv_key_uri).path
        if not isinstance(public_key, SSlibKey):
            raise BadKeyError(f"{path}: a key of type {public_key.keytype} cannot be kept in a file")
        private = parse_private(read_private(path), path=path, ask=secrets_handler or _nobody)
        try:
            return cls(private, public_key)
        except (KeyMismatchError, ValueError) as error:
            message = f"{path} is not the private half of the key {public_key.keyid} that the keyring names"
            raise BadKeyError(message) from error


SIGNER_FOR_URI_SCHEME[FileSigner.SCHEME] = FileSigner


def open_signers(
    keyring: Keyring, role: TufRole, passphrase: PassphraseSource, *, at_most: int | None = None
) -> tuple[Signer, ...]:
    """The signers of a TUF role whose private halves can be reached from here.

    Args:
        keyring: The public side.
        role: Who signs.
        passphrase: Asked for each key that is encrypted.
        at_most: Stop after this many; a number below the threshold is enough (holders who sign in turns).

    Raises:
        MissingKeyError: The role is not in the keyring, or fewer keys than its threshold can be reached.
        WrongModeError: A private file is open to others.
        PassphraseError: A passphrase is missing or wrong.
        BadKeyError: A private key is not the one the keyring names.
        KeyUriError: A URI's scheme is unknown, or its signer could not open it.
    """
    keys = keyring.role(role)
    wanted = len(keys.keys) if at_most is None else at_most
    if wanted < 1:
        raise ValueError(f"at_most must be at least 1, not {at_most}")
    signers: list[Signer] = []
    missing: list[str] = []
    for key in keys.keys:
        if len(signers) == wanted:
            break
        try:
            signers.append(open_signer(key.uri, key.public, passphrase))
        except MissingKeyError as error:
            missing.append(f"{key.uri} ({error})")
    needed = min(keys.threshold, wanted)
    if len(signers) < needed:
        found = f"{len(signers)} of the {needed} private keys it needs can be reached"
        raise MissingKeyError(f"the role {role.value} cannot sign: {found}; missing: {'; '.join(missing)}")
    return tuple(signers)


@dataclass(frozen=True)
class BootSigner:
    """A Secure Boot key as sbsign takes it, `--key` and `--cert`."""

    key: Path
    certificate: Path


Memory = Callable[[], AbstractContextManager[Path]]
BootOpener = Callable[[BootKey, PassphraseSource, Memory], AbstractContextManager[BootSigner]]


@contextmanager
def boot_signer(
    keyring: Keyring, role: BootRole, passphrase: PassphraseSource, *, memory: Memory = memory_folder
) -> Iterator[BootSigner]:
    """A Secure Boot key, ready for sbsign for as long as the context lasts.

    An encrypted key in a file is decrypted into a folder in memory, which is gone when the context ends.

    Args:
        keyring: The public side.
        role: Who signs.
        passphrase: Asked when the key is encrypted.
        memory: Makes a folder in memory for as long as its context lasts.

    Raises:
        MissingKeyError: The role, the private file or the certificate is missing.
        WrongModeError: The private file is open to others.
        PassphraseError: The passphrase is missing or wrong.
        BadKeyError: Key and certificate do not belong together.
        KeyUriError: No signer opens URIs of this scheme.
        KeysError: There is no folder in memory to decrypt into.
    """
    key = keyring.boot_key(role)
    uri = parse_uri(key.uri)
    if uri.scheme not in BOOT_OPENERS:
        known = ", ".join(sorted(BOOT_OPENERS))
        raise KeyUriError(f"Secure Boot key {role.value}: no signer for {uri.scheme}: URIs (known: {known})")
    with BOOT_OPENERS[uri.scheme](key, passphrase, memory) as signer:
        yield signer


@contextmanager
def _boot_file(key: BootKey, passphrase: PassphraseSource, memory: Memory) -> Iterator[BootSigner]:
    path = parse_uri(key.uri).path
    pem = read_private(path)
    private = parse_private(pem, path=path, ask=demanded(passphrase))
    if public_bytes(private.public_key()) != public_bytes(read_certificate(key.certificate).public_key()):
        raise BadKeyError(f"{path} is not the private half of the certificate {key.certificate}")
    if not is_encrypted(pem):
        yield BootSigner(path, key.certificate)
        return
    with memory() as folder:
        plain = folder / path.name
        write_new(plain, private_pem(private, None), mode=PRIVATE_MODE)
        yield BootSigner(plain, key.certificate)


BOOT_OPENERS: dict[str, BootOpener] = {FILE: _boot_file}


def open_signer(uri: str, public: SSlibKey, passphrase: PassphraseSource) -> Signer:
    """The signer of one key: the private half by its URI, the public half as it is known elsewhere.

    Raises:
        MissingKeyError: The private half cannot be read.
        WrongModeError: Others may read it.
        PassphraseError: Its passphrase is missing or wrong.
        BadKeyError: It is not the private half of `public`.
        KeyUriError: The URI's scheme is unknown, or its signer could not open it.
    """
    scheme = parse_uri(uri).scheme
    if scheme not in SIGNER_FOR_URI_SCHEME:
        known = ", ".join(sorted(SIGNER_FOR_URI_SCHEME))
        raise KeyUriError(f"key {public.keyid}: no signer for {scheme}: URIs (known: {known})")
    try:
        return Signer.from_priv_key_uri(uri, public, demanded(passphrase))
    except KeysError:
        raise
    except KeyMismatchError as error:
        raise BadKeyError(f"{uri} is not the private half of the key {public.keyid}") from error
    except (SigningLibraryError, ValueError, OSError) as error:
        raise KeyUriError(f"the signer for {uri} could not be opened: {error}") from error


def _nobody(subject: str) -> str:
    raise BadKeyError(f"{subject} is encrypted, and its passphrase cannot be asked for here")
