"""An apt repository with a key of its own, made by the test: packages, indexes and signature are real."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from imagebuild.inputs.deb import control_of
from imagebuild.inputs.tools import Access, ToolsTree

_TIMEOUT_S = 60
_GPG = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")


@dataclass(frozen=True)
class SigningKey:
    """An OpenPGP key in a home folder of its own."""

    tools: ToolsTree
    home: Path

    @property
    def armored(self) -> bytes:
        """The public key as people publish it."""
        return self._gpg("--armor", "--export").encode()

    @property
    def private(self) -> bytes:
        """The private key, armored."""
        return self._gpg("--armor", "--export-secret-keys").encode()

    @property
    def binary(self) -> bytes:
        """The public key without armor."""
        target = self.home / "public.gpg"
        self._gpg("--yes", "--output", str(target), "--export")
        return target.read_bytes()

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint."""
        lines = self._gpg("--with-colons", "--list-keys").splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def sign(self, text: str) -> bytes:
        """The text, signed in the clear."""
        source, target = self.home / "text", self.home / "text.asc"
        source.write_text(text)
        self._gpg("--yes", "--output", str(target), "--clearsign", str(source))
        return target.read_bytes()

    def _gpg(self, *words: str) -> str:
        words = (*_GPG, "--homedir", str(self.home), *words)
        return self.tools.run(words, Access(write=(self.home,)), timeout_s=_TIMEOUT_S).stdout


@contextmanager
def signing_key(tools: ToolsTree, name: str = "owner") -> Iterator[SigningKey]:
    """A new key; its home has a short path, as the agent's socket needs."""
    home = Path(tempfile.mkdtemp(prefix="twinhull-key-"))
    try:
        key = SigningKey(tools, home)
        key._gpg("--quick-gen-key", f"{name} <{name}@example.com>", "ed25519", "sign", "never")
        yield key
    finally:
        shutil.rmtree(home)


@dataclass(frozen=True)
class RepositoryOnDisk:
    """What a repository holds: the bytes of each package by its file name."""

    key: SigningKey
    debs: Mapping[str, bytes]
    suite: str = "stable"
    component: str = "main"
    origin: str = "Example"
    extra: Mapping[str, Sequence[str]] | None = None
    valid_for: timedelta = timedelta(days=7)

    def files(self, scratch: Path) -> dict[str, bytes]:
        """Every file of it, by its path on the server."""
        index = self._index(scratch, f"pool/{self.component}")
        folder = f"{self.component}/binary-amd64"
        named = {f"{folder}/Packages": index, f"{folder}/Packages.xz": lzma.compress(index)}
        found = {f"/dists/{self.suite}/{name}": content for name, content in named.items()}
        found[f"/dists/{self.suite}/InRelease"] = self.key.sign(self._release(named))
        return found | {f"/pool/{self.component}/{name}": content for name, content in self.debs.items()}

    def flat_files(self, scratch: Path) -> dict[str, bytes]:
        """The same as a flat repository."""
        index = self._index(scratch, ".")
        found = {"Packages": index, "InRelease": self.key.sign(self._release({"Packages": index})), **self.debs}
        # apt asks for `/./NAME`, which real servers take for `/NAME`.
        return {f"{folder}{name}": content for name, content in found.items() for folder in ("/", "/./")}

    def _index(self, scratch: Path, place: str) -> bytes:
        stanzas = []
        for name, content in self.debs.items():
            path = scratch / "deb"
            path.write_bytes(content)
            control = control_of(path, what=name)
            control["Filename"] = f"{place}/{name}"
            control["Size"] = str(len(content))
            control["SHA256"] = hashlib.sha256(content).hexdigest()
            more = (self.extra or {}).get(str(control["Package"]), ())
            stanzas.append(str(control) + "".join(f"{line}\n" for line in more))
        return "\n".join(stanzas).encode()

    def _release(self, named: Mapping[str, bytes]) -> str:
        now = datetime.now(UTC)
        lines = [
            f"Origin: {self.origin}",
            f"Suite: {self.suite}",
            f"Codename: {self.suite}",
            f"Date: {format_datetime(now - timedelta(days=30), usegmt=True)}",
            f"Valid-Until: {format_datetime(now + self.valid_for, usegmt=True)}",
            "Architectures: amd64",
            f"Components: {self.component}",
            "SHA256:",
        ]
        lines += [f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}" for name, content in named.items()]
        return "\n".join(lines) + "\n"


def write_repository(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a repository's files below a folder."""
    for name, content in files.items():
        target = folder / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
