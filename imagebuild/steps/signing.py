"""Sources of Secure Boot signatures: a key, or signatures that were made before.

A build makes the UKI and the boot loader unsigned, gets a detached signature for each from a `SignatureSource`, and
attaches it; both sources give the same bytes.

Rules: the same bytes always get the same signature.  sbsign writes the time into a signature; it runs at the first
moment of the certificate's validity, which is the same for every build.  Firmware does not check that time.
Not here: keys in tokens.  sbsign runs inside the tools tree, which has no engine for them and does not see the token.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Protocol

from bedrock.partial import new_file
from bedrock.process import Argument
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree
from keys.certificates import read_certificate
from keys.keyring import Keyring
from keys.passphrase import PassphraseSource
from keys.roles import BootRole
from keys.signers import BootSigner, boot_signer
from updater.documents.signatures import Signatures

_TIMEOUT_S = 300


class SignatureSource(Protocol):
    """Returns detached signatures for files."""

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The certificates of the Secure Boot keys, in PEM."""

    def check(self) -> None:
        """Find out whether signing will be possible, before any work is done.

        Raises:
            KeysError: The key cannot be opened.
        """

    def detached(self, unsigned: Mapping[str, Path], *, tools: ToolsTree, work: Path, log: Path) -> dict[str, bytes]:
        """Signatures (PKCS #7, DER) of the files `unsigned`, by the same names; they are in `work`, where this writes.

        Raises:
            KeysError: The key cannot be opened.
            ProcessError: Signing failed.
            BuildError: There is no signature for one of them.
        """


@dataclass(frozen=True)
class KeySource:
    """Signs with the key of the role db."""

    keyring: Keyring
    passphrase: PassphraseSource

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The keyring's certificates."""
        return {role: self.keyring.boot_key(role).certificate.read_text() for role in BootRole}

    def check(self) -> None:
        """Open the key and close it again, so that a missing passphrase is reported before the work."""
        with boot_signer(self.keyring, BootRole.DB, self.passphrase):
            pass

    def detached(self, unsigned: Mapping[str, Path], *, tools: ToolsTree, work: Path, log: Path) -> dict[str, bytes]:
        """Sign with sbsign; the key is open only while it runs."""
        with boot_signer(self.keyring, BootRole.DB, self.passphrase) as signer:
            return {name: _sbsign(signer, path, tools=tools, work=work, log=log) for name, path in unsigned.items()}


@dataclass(frozen=True)
class GivenSignatures:
    """Returns signatures that were made before, whatever the files are now; a later step checks whether they fit."""

    signatures: Signatures

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The certificates the signatures came with."""
        return {role: self.signatures.certificates[role.value] for role in BootRole}

    def check(self) -> None:
        """They are here."""

    def detached(
        self,
        unsigned: Mapping[str, Path],
        *,
        tools: ToolsTree,  # noqa: ARG002 - nothing is run
        work: Path,  # noqa: ARG002 - nothing is written
        log: Path,  # noqa: ARG002 - there is nothing to say
    ) -> dict[str, bytes]:
        """The given signatures of these names."""
        return {name: self.signatures.files[name].der for name in unsigned}


def attach(detached: bytes, unsigned: Path, signed: Path, *, tools: ToolsTree, log: Path) -> None:
    """Write `signed`: the file `unsigned` with a signature in its certificate table.

    Raises:
        ProcessError: It is not a PE file, or the disk is full.
    """
    signature = signed.with_name(f".{signed.name}.p7")
    signature.write_bytes(detached)
    access = Access(read=(signature,), write=(signed.parent,))
    with new_file(signed) as partial:
        shutil.copyfile(unsigned, partial)
        tools.run(["sbattach", "--attach", signature, partial], access, timeout_s=_TIMEOUT_S, log=log)
    signature.unlink()


def _sbsign(signer: BootSigner, unsigned: Path, *, tools: ToolsTree, work: Path, log: Path) -> bytes:
    detached = work / f"{unsigned.name}.p7"
    detached.unlink(missing_ok=True)
    read = (signer.certificate.parent, signer.key.parent)
    words: list[Argument] = ["--key", signer.key, "--cert", signer.certificate, "--output", detached, unsigned]
    access = Access(read=tuple(dict.fromkeys(read)), write=(work,))
    tools.run([*_at_fixed_time(signer), "--detached", *words], access, timeout_s=_TIMEOUT_S, log=log)
    if not detached.is_file():
        raise BuildError(f"sbsign wrote no signature of {unsigned.name}")
    return detached.read_bytes()


def at_time(when: str) -> list[Argument]:
    """The words before a program of the tools tree that make it see another time, as libfaketime(1) writes times.

    Without its wrapper `faketime`: that creates a semaphore named after its process id, which repeats in every process
    namespace, and fails when another build, or a killed one, has the same.
    """
    settings = {
        "LD_PRELOAD": "/usr/$LIB/faketime/libfaketime.so.1",
        "FAKETIME": when,
        "FAKETIME_DISABLE_SHM": "1",
        # Another clock, and the same times of files.
        "NO_FAKE_STAT": "1",
    }
    return ["env", "TZ=UTC", *(f"{name}={value}" for name, value in settings.items())]


def _at_fixed_time(signer: BootSigner) -> list[Argument]:
    begins = read_certificate(signer.certificate).not_valid_before_utc.astimezone(UTC)
    return [*at_time(f"{begins:%Y-%m-%d %H:%M:%S}"), "sbsign"]
