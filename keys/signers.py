"""The one interface through which everything is signed.

A caller names a role; this module finds the key and its private half and knows how to open it, by the scheme of the
key's URI: `file:` for a PEM file, `pkcs11:` for a token.  All signers, those of Secure Boot keys too, come from
securesystemslib's registry (`SIGNER_FOR_URI_SCHEME`), to which both are added; another scheme is one more entry there,
and no caller changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from securesystemslib.exceptions import Error as SigningLibraryError
from securesystemslib.exceptions import KeyMismatchError, UnverifiedSignatureError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
)

from keys.certificates import read_certificate
from keys.errors import BadKeyError, KeysError, KeyUriError, MissingKeyError
from keys.keyring import BootKey, Keyring
from keys.passphrase import PassphraseSource, demanded
from keys.private import parse_private, read_private
from keys.public import crypto_key
from keys.roles import BootRole, TufRole
from keys.token_uri import PKCS11
from keys.tokens import PKCS1_SHA256, TokenKey, open_token_key
from keys.uri import FILE, parse_uri

_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 4096


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


class Pkcs11Signer(Signer):
    """Signs with a private key in a token; each signature is verified before it is returned."""

    SCHEME = PKCS11

    def __init__(self, key: TokenKey, public_key: SSlibKey) -> None:
        self._key = key
        self._public_key = public_key

    @property
    def public_key(self) -> SSlibKey:
        """The public half."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Pkcs11Signer:
        """Log in to the token of a `pkcs11:` URI and find the key.

        Raises:
            MissingKeyError: The module, the token or the key is not here.
            KeyUriError: Several tokens or keys match.
            PassphraseError: The PIN is missing or wrong, or must not be tried.
            BadKeyError: It is not the private half of `public_key`.
            TokenError: The token failed.
        """
        if not isinstance(public_key, SSlibKey):
            raise BadKeyError(f"{priv_key_uri}: a key of type {public_key.keytype} cannot be used in a token")
        uri = parse_uri(priv_key_uri)
        expected = crypto_key(public_key.keyval["public"])
        key, _ = open_token_key(str(uri), uri.token, expected, secrets_handler or _nobody)
        return cls(key, public_key)

    def sign(self, payload: bytes) -> Signature:
        """A signature of `payload`.

        Raises:
            TokenError: The token was removed, or refused.
            BadKeyError: The token's key is not the private half of the public key known here.
        """
        made = Signature(self._public_key.keyid, self._key.sign(payload, self._public_key.scheme).hex())
        try:
            self._public_key.verify_signature(made, payload)
        except UnverifiedSignatureError as error:
            message = f"{self._key.subject} is not the private half of the key {self._public_key.keyid}"
            raise BadKeyError(message) from error
        return made


SIGNER_FOR_URI_SCHEME[FileSigner.SCHEME] = FileSigner
SIGNER_FOR_URI_SCHEME[Pkcs11Signer.SCHEME] = Pkcs11Signer
# One token, one scheme.
SIGNER_FOR_URI_SCHEME.pop("hsm", None)


def open_signers(
    keyring: Keyring, role: TufRole, passphrase: PassphraseSource, *, at_most: int | None = None
) -> tuple[Signer, ...]:
    """The signers of a TUF role whose private halves can be reached from here, those of retiring keys among them.

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
        TokenError: A token failed.
    """
    keys = keyring.role(role)
    wanted = len(keys.signing) if at_most is None else at_most
    if wanted < 1:
        raise ValueError(f"at_most must be at least 1, not {at_most}")
    signers: list[Signer] = []
    missing: list[str] = []
    for key in keys.signing:
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
    """A Secure Boot key: its certificate, which names it in what is signed, and a signer like any other."""

    certificate: x509.Certificate
    signer: Signer

    def sign(self, message: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 signature with SHA-256 (RFC 8017): the same one for the same message.

        Raises:
            TokenError: The token was removed, or refused.
            BadKeyError: The private half does not belong to the certificate.
        """
        return bytes.fromhex(self.signer.sign(message).signature)


def open_boot_signer(keyring: Keyring, role: BootRole, passphrase: PassphraseSource) -> BootSigner:
    """A Secure Boot key that is ready to sign; of a key in a file, the private half is in this process's memory only.

    Args:
        keyring: The public side.
        role: Who signs.
        passphrase: Asked when the key is encrypted or in a token.

    Raises:
        MissingKeyError: The role, the private half or the certificate is missing.
        WrongModeError: The private file is open to others.
        PassphraseError: The passphrase is missing or wrong.
        BadKeyError: Key and certificate do not belong together, or firmware would not accept the key.
        KeyUriError: No signer opens URIs of this scheme.
        TokenError: The token failed.
    """
    key = keyring.boot_key(role)
    certificate = boot_certificate(key)
    return BootSigner(certificate, open_signer(key.uri, boot_public(certificate), passphrase))


def boot_public(certificate: x509.Certificate) -> SSlibKey:
    """The key of a Secure Boot certificate, as signers are opened with it; its id is the certificate's hash."""
    keyid = certificate.fingerprint(SHA256()).hex()
    return SSlibKey.from_crypto(certificate.public_key(), keyid=keyid, scheme=PKCS1_SHA256)


def boot_certificate(key: BootKey) -> x509.Certificate:
    """The certificate of a Secure Boot key.

    Raises:
        MissingKeyError: The file does not exist or cannot be read.
        BadKeyError: It holds no certificate, or one of a key that firmware does not accept.
    """
    certificate = read_certificate(key.certificate)
    public = certificate.public_key()
    if not isinstance(public, RSAPublicKey) or not _MIN_RSA_BITS <= public.key_size <= _MAX_RSA_BITS:
        raise BadKeyError(
            f"the key of {key.certificate} is not RSA of {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits"
        ).with_hint("machines in the field accept RSA-2048, and many nothing else")
    return certificate


def open_signer(uri: str, public: SSlibKey, passphrase: PassphraseSource) -> Signer:
    """The signer of one key: the private half by its URI, the public half as it is known elsewhere.

    Raises:
        MissingKeyError: The private half cannot be read.
        WrongModeError: Others may read it.
        PassphraseError: Its passphrase is missing or wrong.
        BadKeyError: It is not the private half of `public`.
        KeyUriError: The URI's scheme is unknown, or its signer could not open it.
        TokenError: The token failed.
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
