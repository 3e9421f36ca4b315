"""What the image with ways in and a signature policy is made of, and the registry that its hosts pull from.

Keys are made once and kept below `out/qemu-test/`, so that the image is built once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.rehearsal.registry import REPOSITORY, TAG, RunningRegistry, run_registry

SOURCE = Path(__file__).parent.parent
FIREWALL = SOURCE / "examples/firewall/nftables.conf"
# What hosts call the registry; where it listens is known only when it does.
NAME = "registry.test"
SIGNED, BY_ANOTHER_KEY, SIGNED_FOR_ANOTHER, UNSIGNED, OPEN = (
    f"{NAME}/{path}:1" for path in ("signed/good", "signed/forged", "signed/misnamed", "signed/bare", "open/any")
)
UNNAMED = f"{NAME}/elsewhere/any:1"
_KEYS = ("images", "another")
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Keys:
    """The keys' folder: `images` signs container images, `another` too, `login` is for ssh."""

    folder: Path

    @property
    def login(self) -> str:
        """The private ssh key."""
        return (self.folder / "login").read_text()


def make_keys(folder: Path, tools: ToolsTree) -> Keys:
    """The keys, made now unless they are there."""
    if not (folder / "login.pub").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "passphrase").write_text("only for tests\n")
        for name in _KEYS:
            words: list[str | Path] = ["skopeo", "generate-sigstore-key", "--output-prefix", folder / name]
            words += ["--passphrase-file", folder / "passphrase"]
            tools.run(words, Access(write=(folder,)), timeout_s=_TIMEOUT_S)
        key = Ed25519PrivateKey.generate()
        private = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        (folder / "login").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
        public = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        (folder / "login.pub").write_bytes(key.public_key().public_bytes(*public))
    return Keys(folder)


def guarded(folder: Path, keys: Keys) -> dict[str, Any]:
    """The keys of `image.yaml` that open and guard a host; copies what they name into the definition's folder."""
    shutil.copyfile(keys.folder / "images.pub", folder / "images.pub")
    shutil.copyfile(FIREWALL, folder / "nftables.conf")
    signed = [{"scope": f"{NAME}/signed", "key": "images.pub"}]
    return {
        "packages": ["systemd-journal-remote"],
        "budget": {},
        "rescue": True,
        "ssh": {"keys": [(keys.folder / "login.pub").read_text().strip()]},
        "containers": {"policy": {"default": "reject", "signed": signed, "accept": [f"{NAME}/open"]}},
        "files": [{"path": "/etc/nftables.conf", "source": "nftables.conf", "replace": True}],
    }


@contextmanager
def signing_registry(tools: ToolsTree, folder: Path, keys: Keys) -> Iterator[RunningRegistry]:
    """Run a registry that holds the image under every name above, signed as each says (writes below `folder`)."""
    with run_registry(tools, folder) as registry:
        settings = folder / "registries.d"
        settings.mkdir()
        (settings / "all.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        place = f"127.0.0.1:{registry.port}"

        def put(name: str, *, key: str | None = None, identity: str | None = None) -> None:
            words: list[str | Path] = ["skopeo", "--policy", folder / "policy.json", "--registries.d", settings]
            words += ["--tmpdir", folder, "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
            if key is not None:
                words += ["--sign-by-sigstore-private-key", keys.folder / f"{key}.private"]
                words += ["--sign-passphrase-file", keys.folder / "passphrase", "--sign-identity", identity or name]
            words += [f"docker://{place}/{REPOSITORY}:{TAG}", f"docker://{name.replace(NAME, place)}"]
            access = Access(read=(keys.folder,), write=(folder,), network=True)
            tools.run(words, access, timeout_s=_TIMEOUT_S)

        put(SIGNED, key="images")
        put(BY_ANOTHER_KEY, key="another")
        put(SIGNED_FOR_ANOTHER, key="images", identity=SIGNED)
        for name in (UNSIGNED, OPEN, UNNAMED):
            put(name)
        yield registry
