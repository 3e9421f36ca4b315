"""What the whole-machine tests work with: tools, keys, built images, a repository per scenario.

Everything is below `out/qemu-test/` and is reused by the next run as long as its inputs are the same: builds are the
expensive part.  The repository of a scenario is a copy of one pristine repository, whose root of trust is baked into
every image, with the builds published into it anew.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from guarded import Keys, guarded, make_keys

from bedrock.progress import Silent
from imagebuild.definition.image import BuildProfile
from imagebuild.errors import BuildError
from imagebuild.inputs.mirror import Mirrors, find_mirrors
from imagebuild.inputs.supply import newest_supply
from imagebuild.inputs.tools import ToolsTree, cache_folder, ensure_tools
from imagebuild.pipeline.build import build_image
from imagebuild.rehearsal.definition import copy_definition
from imagebuild.rehearsal.stage import point_channel
from imagebuild.steps.plan import BuildPlan, plan_build
from imagebuild.steps.signing import KeySource
from imagebuild.vm.accelerator import AcceleratorChoice, find_accelerator
from imagebuild.vm.config import BootCertificates
from imagebuild.vm.images import certificates_of
from keys.generate import init
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import NoPassphrase
from keys.roles import BootRole, Profile
from partitions.version import Version
from tests.fakes.builds import Publisher
from tests.fakes.provisions import PUBLIC_PEM
from updater.repository.access import KeyAccess
from updater.repository.lifetime import Lifetimes
from updater.repository.publish import init_repository

SOURCE = Path(__file__).parent.parent
OUT = SOURCE / "out" / "qemu-test"
DEFINITION = SOURCE / "examples" / "container-host"
IMAGE = "container-host"

FIRST = "1.0.0"
SECOND = "1.0.1"
THIRD = "1.0.2"
SICK = "1.0.3"
DISKS = "1.0.4"
CONTENT = "1.0.5"
CONTENT_NEXT = "1.0.6"
GUARDED = "1.0.7"
DEBUG = "1.0.8"
BARE = "1.0.9"
JUDGED = "1.0.10"
PROVISIONED = ("1.1.0", "1.1.1")
# Of `/etc` the first keeps what it lists, the second nothing.
ETC = ("1.2.0", "1.2.1")
SICK_REASON = "this version is sick on purpose"
# Modules that lead to no disk are left out: they are most of what this kernel brings.
_EVERY_DISK: dict[str, Any] = {
    "kernel": "linux-image-amd64",
    "components": ["main", "non-free-firmware"],
    "packages": ["intel-microcode", "firmware-qlogic"],
    "drivers": "all",
    "drop_modules": [
        "drivers/gpu/",
        "drivers/iio/",
        "drivers/net/wireless/",
        "drivers/staging/",
        "fs/btrfs/",
        "fs/xfs/",
    ],
    "slots": {"root": "1G"},
    "budget": {},
}
# Services with users, state and keys of their own, and every key of a definition that sets up the host.
_CONTENT: dict[str, Any] = {
    "packages": ["openssh-server", "redis-server"],
    "services": {"enable": ["ssh.service", "redis-server.service"]},
    "hostname": "content-1",
    "timezone": "Europe/Berlin",
    "modules": ["br_netfilter"],
    "sysctl": {"net.ipv4.ip_forward": 1},
    "users": [{"name": "app", "id": 850, "groups": ["video"], "home": "/var/lib/app"}],
    "budget": {},
    "etc": "overlay",
    "etc_keep": [],
}
# What docs/provisioning.md names for secrets that only the TPM of a host can open.
_WITH_TPM = [
    "openssh-server",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-rc0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-tcti-device0t64",
]
# A service that ends by itself three seconds after it was first found active, and one that fails and that no check
# names; each only where a file says so.  The second check runs after the first: what it sees was seen.
_FLAGS = "/var/lib/judging"
_SEEN = "/usr/lib/twinhull-test/seen"
_SHORT = f"while :; do if test -e /run/judged && test -e {_FLAGS}/short; then sleep 3; exit 0; fi; sleep 1; done"
_JUDGED: dict[str, Any] = {
    "units": [
        {
            "name": "short.service",
            "content": f"[Service]\nExecStart=/bin/sh -c '{_SHORT}'\n[Install]\nWantedBy=multi-user.target\n",
        },
        {
            "name": "broken.service",
            "content": "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
            f"ExecStart=/usr/bin/test ! -e {_FLAGS}/broken\n[Install]\nWantedBy=multi-user.target\n",
        },
    ],
    "updater": {
        "channel": "stable",
        "health": {"checks": {"short": {"unit": "short.service"}, "then": {"program": _SEEN}}},
    },
}
_LATE_USER = {"name": "late", "home": "/var/lib/late"}
_HEALTH_CHECK = "/usr/lib/twinhull/health.d/50-on-purpose"
_BULK_BYTES = 4 << 20
# The pristine repository's documents last a year; a younger one is never in doubt.
_MAX_AGE_S = 60 * 86400


@dataclass(frozen=True)
class ScenarioRepository:
    """A repository of one scenario."""

    workshop: Publisher

    @property
    def base(self) -> Path:
        return self.workshop.base

    def point(self, version: str) -> None:
        """Let the channel name a version, for every host at once."""
        point_channel(self.base, IMAGE, version, access=self.workshop.access)

    def copy(self, name: str) -> ScenarioRepository:
        """The same repository again, to be tampered with."""
        folder = self.workshop.folder.with_name(name)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.workshop.folder, folder)
        return ScenarioRepository(Publisher(folder, self.workshop.access))


@dataclass(frozen=True)
class Workbench:
    """Tools, keys and builds."""

    mirrors: Mirrors
    tools: ToolsTree
    finding: AcceleratorChoice
    keyring: Keyring
    _built: dict[str, Path] = field(default_factory=dict)

    @property
    def certificates(self) -> BootCertificates:
        return certificates_of(self.keyring)

    @property
    def guard_keys(self) -> Keys:
        """The keys of the guarded image."""
        return make_keys(OUT / "guard-keys", self.tools)

    def build(self, version: str) -> Path:
        """The folder of a build of `version`, built now if there is none of the same inputs; the same all session."""
        if version not in self._built:
            plan = self._plan(version)
            if not _is_fresh(plan):
                shutil.rmtree(plan.out)
            with timed(f"build {version}"):
                self._built[version] = build_image(plan).out
        return self._built[version]

    def build_again(self, version: str, folder: Path) -> Path:
        """Another build of `version`, from a definition and into a place below `folder`."""
        with timed(f"build {version} again"):
            return build_image(self._plan(version, folder)).out

    def disk(self, version: str) -> Path:
        """The disk of a build; not to be written to."""
        return self.build(version) / "disk.raw"

    def disk_copy(self, version: str, folder: Path) -> Path:
        """A copy of a build's disk, to be written to."""
        copy = folder / "disk.raw"
        folder.mkdir(parents=True, exist_ok=True)
        return sparse_copy(self.disk(version), copy)

    def repository(self, name: str, *versions: str) -> ScenarioRepository:
        """A new repository with these versions published and the channel at the first of them."""
        folder = OUT / "repositories" / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(OUT / "trust", folder)
        repository = ScenarioRepository(Publisher(folder, KeyAccess(self.keyring, NoPassphrase())))
        with timed(f"publish {', '.join(versions)}"):
            repository.workshop.publish_folders(*(self.build(version) for version in versions), now=datetime.now(UTC))
        repository.point(versions[0])
        return repository

    def _plan(self, version: str, folder: Path = OUT) -> BuildPlan:
        definition = write_definition(folder / "definitions" / version, version)
        if version == GUARDED:
            extend_definition(definition, guarded(definition, self.guard_keys))
        return plan_build(
            definition,
            version=Version.from_text(version),
            signatures=KeySource(self.keyring, NoPassphrase()),
            out=folder / "builds" / version,
            supply=newest_supply(definition, mirrors=self.mirrors, cache=cache_folder(), progress=Silent()),
            root_of_trust=OUT / "trust" / "repo" / "metadata" / "1.root.json",
            profile=BuildProfile.DEBUG if version == DEBUG else None,
        )


def make_workbench() -> Workbench:
    """Make everything ready that all scenarios share."""
    OUT.mkdir(parents=True, exist_ok=True)
    mirrors = find_mirrors()
    with timed("tools tree"):
        tools = ensure_tools(mirrors, cache=cache_folder())
    with timed("accelerator"):
        finding = find_accelerator(tools, cache=cache_folder())
    keyring = _keyring(OUT / "keys")
    trust = Publisher(OUT / "trust", KeyAccess(keyring, NoPassphrase()))
    if not trust.base.exists():
        trust.folder.mkdir(exist_ok=True)
        init_repository(trust.base, trust.access, lifetimes=Lifetimes(), now=datetime.now(UTC))
    return Workbench(mirrors, tools, finding, keyring)


def write_definition(folder: Path, version: str) -> Path:
    """The reference definition, with a file that differs in each version.

    The faulty version has a check that fails, the judged one services that fail on request; the one for disks has every
    disk driver; those for content have services, users and files below `/var`, and the later of them one more user.
    """
    copy_definition(DEFINITION, folder, lambda definition: _of_version(definition, version))
    if version in (*PROVISIONED, *ETC):
        (folder / "provision.pub").write_bytes(PUBLIC_PEM)
    return folder


def _of_version(definition: dict[str, Any], version: str) -> None:
    """What `image.yaml` says in one version."""
    files = list(definition.get("files") or [])
    files.append({"path": "/usr/share/twinhull-test/version", "content": f"{version}\n"})
    if version == SICK:
        script = f"#!/bin/sh\necho '{SICK_REASON}'\nexit 1\n"
        files.append({"path": _HEALTH_CHECK, "content": script, "mode": "0755"})
    definition["etc_keep"] = ["kept/", "twinhull-test"]
    if version == BARE:
        definition["hardening"] = dict.fromkeys(
            (
                "lockdown",
                "slab_nomerge",
                "init_on_free",
                "page_shuffle",
                "mounted_disks",
                "debugfs",
                "sealed_arguments",
            ),
            False,
        )
    if version == DISKS:
        definition.update(_EVERY_DISK)
    if version == JUDGED:
        script = f"#!/bin/sh\nsystemctl is-active short.service >> {_FLAGS}/seen\ntouch /run/judged\n"
        files.append({"path": _SEEN, "content": script, "mode": "0755"})
        definition.update(_JUDGED)
    if version in (CONTENT, CONTENT_NEXT):
        definition.update(_CONTENT)
        files.append({"path": "/var/lib/app/config", "content": f"of {version}\n", "mode": "0640"})
    if version == CONTENT_NEXT:
        definition["users"] = [*_CONTENT["users"], _LATE_USER]
    definition["files"] = files
    if version in ETC:
        definition["provision"]["signed_by"] = ["provision.pub"]
    if version == ETC[1]:
        definition.update(etc="volatile", etc_keep=[], users=[_LATE_USER])
    if version in PROVISIONED:
        definition["provision"] = {"signed_by": ["provision.pub"]}
        definition.update(packages=_WITH_TPM, services={"enable": ["ssh.service"]}, budget={})
        # Unsigned documents bring units here, which do not persist otherwise.
        definition.update(etc="overlay", etc_keep=[])


def extend_definition(folder: Path, more: dict[str, Any]) -> None:
    """Add keys to a definition; lists that it has already grow."""
    path = folder / "image.yaml"
    definition: dict[str, Any] = yaml.safe_load(path.read_text())
    for key, value in more.items():
        definition[key] = [*(definition.get(key) or []), *value] if isinstance(value, list) else value
    path.write_text(yaml.safe_dump(definition, sort_keys=False))


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Note in `timeline.log` how long something took."""
    began = time.monotonic()
    try:
        yield
    finally:
        with (OUT / "timeline.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S}  {time.monotonic() - began:7.1f} s  {name}\n")


def remove_bulk() -> None:
    """Remove the large files below `out/qemu-test/`, builds excepted; logs and documents stay for whoever looks."""
    kept = [OUT / name for name in ("builds", "everything", "trust", "two-slots")]
    for folder, names, files in os.walk(OUT):
        names[:] = [name for name in names if Path(folder, name) not in kept]
        for path in (Path(folder, name) for name in files):
            if not path.is_symlink() and path.stat().st_size > _BULK_BYTES:
                path.unlink()


def _keyring(folder: Path) -> Keyring:
    path = folder / KEYRING_FILE
    if path.exists() and time.time() - path.stat().st_mtime < _MAX_AGE_S:
        found = Keyring.load(folder)
        # Keys of an earlier Twinhull may lack a role.
        if set(found.boot) == set(BootRole):
            return found
    for name in ("keys", "trust", "builds", "repositories"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    return init(folder, Profile.DEV, NoPassphrase())


def _is_fresh(plan: BuildPlan) -> bool:
    """Whether the build's folder is missing or holds this very build."""
    try:
        return plan.finished or not plan.out.exists()
    except BuildError:
        return False


def sparse_copy(source: Path, target: Path) -> Path:
    """Copy a file without writing its holes."""
    target.unlink(missing_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        size = source.stat().st_size
        while block := reader.read(1 << 20):
            if block.count(0) == len(block):
                writer.seek(len(block), 1)
            else:
                writer.write(block)
        writer.truncate(size)
    return target
