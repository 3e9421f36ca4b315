"""The image that has something of everything people add, and the repository of a third party that it takes part of.

It is built from a lock, out of a bundle, in a namespace without a network, and twice: in other circumstances.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from reproducible import (
    VARIANTS,
    Cache,
    Inputs,
    Made,
    Place,
    Variant,
    explained,
    pack,
    ram_folder,
    run,
    with_mkosi_extra,
)
from workbench import OUT, Workbench, timed

from imagebuild.inputs.tools import ToolsTree, cache_folder
from imagebuild.steps.scratch import remove_tree
from tests.fakes.debian_packages import deb
from tests.fakes.signed_repository import RepositoryOnDisk, signing_key, write_repository

FOLDER = OUT / "everything"
IMAGE = "everything"
THIRD_PARTY, LOCAL = "hull-probe", "hull-local"
FIRMWARE = "intel-microcode"
PACKAGES = (
    "python3",
    "curl",
    "iputils-ping",
    "qemu-guest-agent",
    "nfs-common",
    "nfs-kernel-server",
    "lvm2",
    "wireguard-tools",
    "tcpdump",
    FIRMWARE,
    THIRD_PARTY,
    f"./packages/{LOCAL}_1.0_amd64.deb",
)
_HERE = next(variant for variant in VARIANTS if variant.name == "warm, no network")
_ELSEWHERE = Variant(
    "elsewhere",
    Cache.DOWNLOADS,
    Place.RAM,
    {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"},
    {"alone": True, "cpus": 1, "umask": "077", "clock": "+400d"},
)


@dataclass(frozen=True)
class SshKey:
    """Both halves of a key, as ssh writes them."""

    private: str
    public: str


@dataclass(frozen=True)
class Everything:
    """What it was built from, one of the two builds, how the other differs, and the key that the image lets in."""

    inputs: Inputs
    here: Made
    differences: dict[str, tuple[str, ...]]
    ssh_key: SshKey


def write_definition(folder: Path, *, tools: ToolsTree, public_key: str) -> Path:
    """Write the definition and, next to it, the third party's repository with a new key."""
    definition, repository = folder / "definition", folder / "third-party"
    (definition / "packages").mkdir(parents=True)
    (definition / f"packages/{LOCAL}_1.0_amd64.deb").write_bytes(_program(LOCAL))
    scratch = folder / "scratch"
    scratch.mkdir()
    with signing_key(tools, "third-party") as key:
        debs = {f"{THIRD_PARTY}_1.0_amd64.deb": _program(THIRD_PARTY)}
        write_repository(repository, RepositoryOnDisk(key, debs).files(scratch))
        (definition / "third-party.asc").write_bytes(key.armored)
    image = _image(repository, public_key)
    (definition / "image.yaml").write_text(yaml.safe_dump(image, sort_keys=False))
    with_mkosi_extra(definition)
    return definition


def built_twice(bench: Workbench) -> Everything:
    """Lock, bundle, and build twice without a network (writes below `out/`)."""
    if FOLDER.exists():
        remove_tree(FOLDER)
    FOLDER.mkdir(parents=True)
    key = new_ssh_key()
    definition = write_definition(FOLDER, tools=bench.tools, public_key=key.public)
    with timed("everything: lock and bundle"):
        inputs = pack(definition, FOLDER / "bundle", cache_folder())
    with ram_folder() as ram:
        with timed("everything: build without a network"):
            here = _build(_HERE, inputs, FOLDER / "here", ram / "cache-here")
        with timed("everything: the same elsewhere"):
            elsewhere = _build(_ELSEWHERE, inputs, ram / "there", ram / "cache-there")
        return Everything(inputs, here, explained(here, elsewhere, bench.tools), key)


def new_ssh_key() -> SshKey:
    """A new key for a login, without a passphrase."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return SshKey(private.decode(), public.decode())


def _build(variant: Variant, inputs: Inputs, place: Path, cache: Path) -> Made:
    """Only the tools are in the cache: all else must come out of the bundle."""
    cache.mkdir()
    (cache / "tools").symlink_to(cache_folder() / "tools")
    return run(variant, inputs, place=place, cache=cache)


def _program(name: str) -> bytes:
    return deb(name, "1.0", {f"/usr/bin/{name}": f"#!/bin/sh\necho this is {name}\n".encode()}, depends="libc6")


def _image(repository: Path, public_key: str) -> dict[str, Any]:
    return {
        "id": IMAGE,
        "components": ["main", "non-free-firmware"],
        "sources": [
            {
                "name": "third-party",
                "uris": [f"file://{repository}"],
                "suites": ["stable"],
                "components": ["main"],
                "signed_by": "third-party.asc",
            }
        ],
        "packages": list(PACKAGES),
        "containers": {"engine": "docker"},
        "time": "chrony",
        "ssh": {"keys": [public_key]},
        "services": {"enable": ["nfs-server.service"]},
        "keep_modules": ["fs/nfsd/"],
        "slots": {"root": "1G"},
        "files": [
            {"path": "/etc/exports", "content": "/var/srv/share 127.0.0.1(rw,no_root_squash,insecure,fsid=1)\n"},
            {"path": "/etc/docker/daemon.json", "content": '{"insecure-registries": ["10.0.2.0/24"]}\n'},
        ],
    }
