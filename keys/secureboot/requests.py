"""Secure Boot signatures by keys that are elsewhere: what goes into a signing request, and what it means.

Rules: a payload is put into words from its own bytes; a payload that is neither of the two forms that firmware reads is
refused, so that a Secure Boot key signs nothing else.
Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bedrock.base64_bytes import Base64Bytes
from keys.ceremony.request import Algorithm, Entry, PayloadKind, RequestedKey, SignerGroup, SigningRequest
from keys.errors import RequestMismatchError, UnrequestedKeyError
from keys.roles import BootRole
from keys.secureboot import authenticode
from keys.secureboot.measured import DIGEST_BYTES, Measurement, policy_of
from keys.secureboot.siglist import BootVariable, SignatureKind
from keys.secureboot.variable import Addition, parse_to_sign
from keys.signers import boot_public

# How the entries for a measured boot are called, before the phase.
_MEASURED = "uki.efi measured"


def boot_entry(
    name: str,
    payload: bytes,
    *,
    role: BootRole,
    certificate: x509.Certificate,
    description: Sequence[str],
    context: bytes | None = None,
) -> Entry:
    """An entry that asks one boot key for a signature."""
    public = boot_public(certificate)
    pem = certificate.public_bytes(Encoding.PEM).decode()
    key = RequestedKey(public.keyid, role.value, Algorithm.RSA_PKCS1V15, pem)
    return Entry(
        kind=PayloadKind.SECURE_BOOT,
        name=name,
        description=tuple(description),
        payload=Base64Bytes(payload),
        keys=(key,),
        signers=(SignerGroup(f"the boot key {role.value}", 1, (public.keyid,)),),
        context=Base64Bytes(context) if context is not None else None,
    )


def program_entry(name: str, digest: bytes, certificate: x509.Certificate, description: Sequence[str]) -> Entry:
    """An entry for a program with this Authenticode digest."""
    return boot_entry(
        name,
        authenticode.to_sign(digest),
        role=BootRole.DB,
        certificate=certificate,
        description=description,
        context=digest,
    )


def measurement_entry(measurement: Measurement, certificate: x509.Certificate, description: Sequence[str]) -> Entry:
    """An entry for what PCR 11 holds in a phase of a boot."""
    return boot_entry(
        _measurement_name(measurement),
        measurement.policy,
        role=BootRole.PCR,
        certificate=certificate,
        description=description,
        context=measurement.value,
    )


def is_for_measurements(request: SigningRequest) -> bool:
    """Whether a request asks for the signatures of policies, not of programs."""
    return all(entry.name.startswith(_MEASURED) for entry in request.entries)


def measurement_signatures(
    request: SigningRequest, measurements: Iterable[Measurement], certificate: x509.Certificate
) -> dict[str, bytes]:
    """The signatures of policies, by phase, out of a request that came back.

    Raises:
        RequestMismatchError: It asks for other policies or another key.
        UnrequestedKeyError: A signature is missing.
    """
    entries = {entry.name: entry for entry in request.entries}
    made = {}
    for each in measurements:
        entry = entries.get(_measurement_name(each))
        if entry is None or entry.payload.content != each.policy:
            raise _other_build(_measurement_name(each))
        made[each.phase] = entry_signature(entry, certificate)
    return made


def program_signatures(
    request: SigningRequest, digests: Mapping[str, bytes], certificate: x509.Certificate
) -> dict[str, bytes]:
    """The signatures (PKCS #7, DER) of programs out of a request that came back.

    Args:
        request: What was asked for, with its signatures.
        digests: The Authenticode digests of the programs as they are now, by the names of the entries.
        certificate: Whose key must have signed.

    Raises:
        RequestMismatchError: It asks for other programs or another key.
        UnrequestedKeyError: A signature is missing.
    """
    entries = {entry.name: entry for entry in request.entries}
    return {name: _program(entries.get(name), name, digest, certificate) for name, digest in digests.items()}


def entry_signature(entry: Entry, certificate: x509.Certificate) -> bytes:
    """The signature that a certificate's key made of an entry's payload.

    Raises:
        UnrequestedKeyError: It is missing.
        RequestMismatchError: The entry asks for the signature of another key.
    """
    wanted = RequestedKey("00", "", Algorithm.RSA_PKCS1V15, certificate.public_bytes(Encoding.PEM).decode()).identity
    keyids = {key.keyid for key in entry.keys if key.identity == wanted}
    if not keyids:
        subject = certificate.subject.rfc4514_string()
        raise RequestMismatchError(f"{entry.name}: the request does not ask for a signature of {subject}")
    for made in entry.signatures:
        if made.keyid in keyids:
            return bytes.fromhex(made.signature)
    raise UnrequestedKeyError(f"{entry.name}: the signature of {entry.key(min(keyids)).label} is missing").with_hint(
        "take the request to the key: twinhull sign FILE"
    )


def boot_words(entry: Entry) -> tuple[str, ...]:
    """What a Secure Boot key's signature would mean (`keys.ceremony.signing.Words`).

    Raises:
        UnrequestedKeyError: The payload is nothing that firmware reads.
    """
    digest = entry.context.content if entry.context is not None else b""
    if len(digest) == authenticode.DIGEST_BYTES and entry.payload.content == authenticode.to_sign(digest):
        return (f"lets firmware start the program with the Authenticode SHA-256 {digest.hex()}",)
    if len(digest) == DIGEST_BYTES and entry.payload.content == policy_of(digest):
        return (f"lets a TPM give out what is bound to this key while its PCR 11 holds {digest.hex()}",)
    try:
        return tuple(addition_lines(parse_to_sign(entry.payload.content)))
    except ValueError as error:
        raise UnrequestedKeyError(f"{entry.name}: the payload is nothing that firmware reads").with_hint(
            "do not sign it: it is damaged, of a newer Twinhull, or made to deceive you"
        ) from error


def addition_lines(addition: Addition) -> Iterator[str]:
    """What an addition to db or dbx does, in words."""
    for each in sorted(addition.signatures, key=lambda signature: (signature.kind.name, signature.data)):
        if each.kind is SignatureKind.SHA256:
            what = f"the program with the Authenticode SHA-256 {each.data.hex()}"
        else:
            what = f"everything signed by {_certificate_name(each.data)}"
        effect = "never starts again" if addition.variable is BootVariable.DBX else "may start"
        yield f"{what} {effect}, on every host that enrolled this KEK"


def _certificate_name(certificate: bytes) -> str:
    try:
        subject = x509.load_der_x509_certificate(certificate).subject.rfc4514_string()
    except ValueError:
        subject = "an unreadable certificate"
    return f"{subject} (SHA-256 {hashlib.sha256(certificate).hexdigest()})"


def _program(entry: Entry | None, name: str, digest: bytes, certificate: x509.Certificate) -> bytes:
    if entry is None or entry.payload.content != authenticode.to_sign(digest):
        raise _other_build(name)
    return authenticode.assemble(digest, entry_signature(entry, certificate), certificate)


def _measurement_name(measurement: Measurement) -> str:
    return f"{_MEASURED} {measurement.phase or 'at its start'}"


def _other_build(name: str) -> RequestMismatchError:
    return RequestMismatchError(f"the signing request was not made for this {name}").with_hint(
        "it belongs to another build; take the one that is in the build's folder"
    )
