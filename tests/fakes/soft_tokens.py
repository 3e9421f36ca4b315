"""Tokens of SoftHSM, which is a PKCS #11 module made of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedrock import process
from keys.private import private_pem

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN, SO_PIN = "1234-5678", "so-pin-1234"
_TIMEOUT_S = 60


@dataclass(frozen=True)
class SoftTokens:
    """A folder of tokens; the module reads the configuration when it is loaded, so all are made before."""

    folder: Path

    @property
    def configuration(self) -> Path:
        """SoftHSM's configuration, which `SOFTHSM2_CONF` names."""
        return self.folder / "softhsm2.conf"

    def uri(self, token: str, conditions: str) -> str:
        """The URI of a key."""
        return f"pkcs11:token={token};{conditions}?module-path={MODULE}"

    def prepare(self) -> None:
        """Make the folder."""
        (self.folder / "tokens").mkdir(parents=True)
        self.configuration.write_text(f"directories.tokendir = {self.folder}/tokens\nlog.level = ERROR\n")

    def make(self, label: str) -> None:
        """A token."""
        self._softhsm("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN)

    def put(self, token: str, label: str, number: str, private: Any) -> None:
        """A key pair into a token."""
        pem = self.folder / "key.pem"
        pem.write_bytes(private_pem(private, None))
        self._softhsm("--import", pem, "--token", token, "--label", label, "--id", number, "--pin", PIN)
        pem.unlink()

    def _softhsm(self, *words: str | Path) -> None:
        environment = {"SOFTHSM2_CONF": str(self.configuration)}
        process.run(["softhsm2-util", *words], timeout_s=_TIMEOUT_S, env=environment)
