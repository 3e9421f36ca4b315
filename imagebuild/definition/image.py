"""`image.yaml`: what to build, read strictly.

An image definition is a folder with `image.yaml` and, next to it, files of mkosi (`mkosi.conf`, `mkosi.extra/`,
`mkosi.postinst`, …), which are merged in last; `mkosi.py` says what they may set.
The `updater:` section is the agent's own configuration and is baked into the image unchanged.
Not here: how a definition becomes mkosi's and systemd-repart's configuration (`config.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Annotated

from bedrock import strict
from bedrock.errors import DocumentError, Problem
from imagebuild.definition.access import Ssh
from imagebuild.definition.base import ENGINES, TIME_SERVICES, BasePackages, TimeService, time_service
from imagebuild.definition.containers import Containers, engine_problems, key_problems
from imagebuild.definition.drivers import GENERIC_KERNEL, Drivers
from imagebuild.definition.hardening import Hardening
from imagebuild.definition.host import (
    UTC,
    Group,
    HostName,
    ImageUser,
    Locale,
    ModuleName,
    Secrets,
    Services,
    SysctlName,
    SysctlValue,
    TimeZone,
    account_problems,
)
from imagebuild.definition.mkosi import files_without_effect
from imagebuild.definition.paths import FilePath
from imagebuild.definition.provision import ProvisionPolicy
from imagebuild.definition.removals import check_removals
from imagebuild.definition.reset import ResetPolicy
from imagebuild.definition.sources import (
    LOCAL_PACKAGE,
    DebianComponent,
    ExpiredIndexes,
    MirrorUrl,
    PackageSource,
    SecurityUpdates,
    is_local,
    problems_between,
)
from imagebuild.definition.storage import VarPolicy
from partitions.layout import MIB, verity_size_for
from updater.agent.config import Config as UpdaterConfig
from updater.documents.release import Architecture, Name
from updater.etc_policy import EtcMode, EtcPolicy, KeptName

FILE_NAME = "image.yaml"
LOCK_FILE = "image.lock"
SCHEMA_FILE = "image.schema.json"
PackageName = Annotated[str, strict.Pattern(r"[a-z0-9][a-z0-9+.-]*(/[a-z0-9-]+)?", "a Debian package name")]
PackageEntry = Annotated[
    str,
    strict.Pattern(
        rf"[a-z0-9][a-z0-9+.-]*(/[a-z0-9-]+)?|{LOCAL_PACKAGE}",
        "a Debian package name, or a .deb file of the definition's folder such as ./probe_1.0_amd64.deb",
    ),
]
ReleaseName = Annotated[str, strict.Pattern(r"[a-z][a-z0-9-]*", "the code name of a Debian release, such as trixie")]
KernelArgument = Annotated[
    str,
    strict.Pattern(r"[!-~]+", "one kernel argument without spaces"),
    strict.Pattern(
        r"(?!(roothash|root|init|rdinit|systemd\.verity|twinhull\.mounts|twinhull\.reset)(=|$)|--$).*",
        "for a definition to set: the build sets it",
    ),
]
# Characters that are safe in mkosi's configuration: no comment sign, no list separator, no specifier.
DropPath = Annotated[str, strict.Pattern(r"/[^\s#,:%\"'\\]+", "a path inside the image such as /usr/share/info/*")]
# Where mkosi's regular expressions are made from (config.py); `*` is any part of one name.
MODULE_PATTERN = r"([A-Za-z0-9_+*.-]+/)+([A-Za-z0-9_+*.-]+\.ko)?"
ModulePath = Annotated[
    str,
    strict.Pattern(
        MODULE_PATTERN,
        "a folder below kernel/ with / at its end such as drivers/isdn/, or a module such as fs/nfs/nfs.ko",
    ),
]
UnitName = Annotated[str, strict.Pattern(r"[A-Za-z0-9:_.@-]{1,200}\.[a-z]+", "a unit name such as web.container")]
BudgetBytes = Annotated[int, strict.Size(), strict.Range(1, 1 << 44)]
Mode = Annotated[str, strict.Pattern(r"0[0-7]{3}", "a mode in octal such as 0644")]


class BuildProfile(Enum):
    """Named additions to a definition, chosen at build time."""

    DEBUG = "debug"


@dataclass(frozen=True)
class ExtraFile:
    """A file of the image: its content here, or the name of a file in the definition's folder.

    Attributes:
        path: Absolute path on the host; one below `/var`, `/opt`, `/srv`, `/home` or `/root` is made at the first boot.
        content: The text of the file; give this or `source`.
        source: A file in the definition's folder, by its relative path.
        mode: Octal, quoted, such as `"0755"`.
        replace: Replace a package's file, which is an error otherwise.
    """

    path: FilePath
    content: str | None = None
    source: str | None = None
    mode: Mode = "0644"
    replace: bool = False

    def __post_init__(self) -> None:
        if (self.content is None) == (self.source is None):
            raise ValueError("give either content or source")
        if self.source is not None:
            source = PurePosixPath(self.source)
            if source.is_absolute() or ".." in source.parts:
                raise ValueError(f"source {self.source!r} must be a path inside the definition's folder")


@dataclass(frozen=True)
class ExtraUnit:
    """A systemd unit or Quadlet file of the image.

    Attributes:
        name: The unit's file name; its suffix decides whether it is a Quadlet.
        content: The unit's text.
        enabled: Whether a systemd unit is enabled; Quadlets use their own `[Install]` section.
    """

    name: UnitName
    content: str
    enabled: bool = True

    @property
    def path(self) -> str:
        """Its path: Quadlet kinds in podman's folder, all others in systemd's."""
        quadlet = (".container", ".volume", ".network", ".pod", ".kube", ".image", ".build")
        folder = "/usr/share/containers/systemd" if self.name.endswith(quadlet) else "/usr/lib/systemd/system"
        return f"{folder}/{self.name}"

    @property
    def presettable(self) -> bool:
        """Whether `enabled` is said to systemd (Quadlet units are enabled by their own [Install] section)."""
        return self.path.startswith("/usr/lib/systemd/system/") and self.enabled


@dataclass(frozen=True)
class Slots:
    """Sizes on the disk; `root` bounds how large any later release may grow.

    Attributes:
        root: Bytes of each of the two root partitions.
        boot: Bytes of the partition of the UKIs; two must fit.
        esp: Bytes of the partition of the boot loader.
        var: Bytes left for `/var` in `disk.raw`; it grows to the real disk.
    """

    root: strict.Bytes = 512 * MIB
    boot: strict.Bytes = 512 * MIB
    esp: strict.Bytes = 280 * MIB
    var: strict.Bytes = 2048 * MIB

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be at least {low}M and a multiple of 1M, not {getattr(self, name)} bytes"
            for name, low in (("root", 64), ("boot", 280), ("esp", 280), ("var", 256))
            if getattr(self, name) < low * MIB or getattr(self, name) % MIB
        ]
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def verity(self) -> int:
        """Bytes of a verity partition: room for the tree of a full root partition."""
        return verity_size_for(self.root)


@dataclass(frozen=True)
class Budget:
    """Upper limits for the image's size; None is no limit.

    Attributes:
        wire: Bytes a host downloads: UKI, root filesystem and verity tree, compressed as for publishing.
        root: Bytes of `root.erofs`.
        uki: Bytes of `uki.efi`.
        initrd: Bytes of the initrd in it.
        packages: Number of Debian packages with a file in the image.
    """

    wire: BudgetBytes | None = None
    root: BudgetBytes | None = None
    uki: BudgetBytes | None = None
    initrd: BudgetBytes | None = None
    packages: Annotated[int, strict.Range(1, 100_000)] | None = None


@dataclass(frozen=True)
class Trim:
    """What `twinhull trim` must never propose to drop.

    Attributes:
        keep: Paths, each with everything below it.
        keep_modules: Kernel modules, written like `drop_modules`.
    """

    keep: tuple[DropPath, ...] = ()
    keep_modules: tuple[ModulePath, ...] = ()


@dataclass(frozen=True)
class ImageDefinition:
    """All keys of `image.yaml`.

    Attributes:
        id: The image's name, in partition labels, boot entries and release paths.
        release: Code name of the Debian release the packages come from.
        architecture: The architecture of the hosts.
        mirror: Base URL of the Debian mirror; what this host's apt uses when left out.
        security_mirror: The same for the security archive.
        security: What a build does when it finds no security updates.
        expired_indexes: What a build does about signed indexes that have expired.
        components: The parts of Debian's archive that packages may come from.
        sources: Repositories in addition to Debian's.
        kernel: The package that brings the one kernel.
        drivers: Which disks the initrd has drivers for, as far as the kernel has them.
        packages: Packages in addition to those every image has; `./NAME.deb` is a file in the folder.
        drop: Paths removed from the root file system; `*` matches any part of a name.
        keep: Paths to keep that are left out by default, each with everything below it.
        keep_modules: Kernel modules to keep that are left out by default.
        drop_modules: Kernel modules removed from the root file system: a folder with / at its end, or a module.
        trim: What `twinhull trim` never proposes to drop.
        kernel_arguments: Kernel arguments in addition to the built-in ones.
        slots: Sizes on the disk.
        budget: Upper limits for the image's size.
        updater: The agent's settings, baked in as the lowest layer.
        files: Files of the image.
        units: systemd units and Quadlets of the image.
        hardening: A switch for each part of the default hardening.
        containers: The container engine, and which images it may run.
        ssh: Who may log in over ssh.
        rescue: Whether the boot menu has a rescue entry, a root shell on the console.
        time: What sets the clock; systemd-timesyncd unless `packages` brings another.
        hostname: The hostname of every host that has no own `/etc/hostname`.
        timezone: The time zone, such as `Europe/Berlin`.
        locale: How numbers and dates are written and words are sorted, such as `de_DE.UTF-8`.
        users: Users of the image, and ids of users that packages create.
        groups: Groups of the image, and ids of groups that packages create.
        modules: Kernel modules to load at boot.
        sysctl: Kernel settings by name, set at boot.
        services: Units of packages to enable, disable or mask.
        secrets: Which files may hold a private key or a password.
        var: What a host does about a damaged `/var`.
        etc: What of a host's own edits of `/etc` outlives a boot: all (`overlay`), what is listed (`allowlist`), or
            nothing (`volatile`).
        etc_keep: What an `allowlist` keeps besides its built-in names: `app/settings`, `app/*.conf`, `app/` (a folder).
        reset: Who may reset a host, besides root on it.
        provision: Which configuration a host accepts from outside.
    """

    id: Name
    release: ReleaseName = "trixie"
    architecture: Architecture = Architecture.X86_64
    mirror: MirrorUrl | None = None
    security_mirror: MirrorUrl | None = None
    security: SecurityUpdates = SecurityUpdates.AUTO
    expired_indexes: ExpiredIndexes = ExpiredIndexes.REFUSE
    components: tuple[DebianComponent, ...] = (DebianComponent.MAIN,)
    sources: tuple[PackageSource, ...] = ()
    kernel: PackageName = "linux-image-cloud-amd64"
    drivers: Drivers = Drivers.CLOUD
    packages: tuple[PackageEntry, ...] = ()
    drop: tuple[DropPath, ...] = ()
    drop_modules: tuple[ModulePath, ...] = ()
    keep: tuple[DropPath, ...] = ()
    keep_modules: tuple[ModulePath, ...] = ()
    trim: Trim = field(default_factory=Trim)
    kernel_arguments: tuple[KernelArgument, ...] = ()
    slots: Slots = field(default_factory=Slots)
    budget: Budget = field(default_factory=Budget)
    updater: UpdaterConfig = field(default_factory=UpdaterConfig)
    files: tuple[ExtraFile, ...] = ()
    units: tuple[ExtraUnit, ...] = ()
    hardening: Hardening = field(default_factory=Hardening)
    time: TimeService | None = None
    hostname: HostName | None = None
    timezone: TimeZone = UTC
    locale: Locale = "C.UTF-8"
    users: tuple[ImageUser, ...] = ()
    groups: tuple[Group, ...] = ()
    modules: tuple[ModuleName, ...] = ()
    sysctl: dict[SysctlName, SysctlValue] = field(default_factory=dict)
    services: Services = field(default_factory=Services)
    secrets: Secrets = field(default_factory=Secrets)
    containers: Containers = field(default_factory=Containers)
    ssh: Ssh = field(default_factory=Ssh)
    rescue: bool = False
    var: VarPolicy = field(default_factory=VarPolicy)
    etc: EtcMode = EtcMode.ALLOWLIST
    etc_keep: tuple[KeptName, ...] = ()
    reset: ResetPolicy = field(default_factory=ResetPolicy)

    @property
    def etc_policy(self) -> EtcPolicy:
        """What of a host's own `/etc` outlives a boot, as the image carries it."""
        return EtcPolicy(self.etc, self.etc_keep)

    @property
    def implied_packages(self) -> dict[str, str]:
        """Packages that keys other than `packages` need, and the key that does."""
        zone = {} if self.timezone == UTC else {"tzdata": "timezone"}
        return zone | dict.fromkeys(self.ssh.packages, "ssh")

    @property
    def chosen(self) -> tuple[BasePackages, ...]:
        """The container engine and what sets the clock."""
        return ENGINES[self.containers.engine], TIME_SERVICES[time_service(self.time, self.packages)]

    @property
    def local_packages(self) -> tuple[str, ...]:
        """The packages that are files of the definition's folder, by their paths in it."""
        return tuple(entry.removeprefix("./") for entry in self.packages if is_local(entry))

    provision: ProvisionPolicy = field(default_factory=ProvisionPolicy)

    def __post_init__(self) -> None:
        if self.architecture is not Architecture.X86_64:
            raise ValueError(f"architecture {self.architecture.value} cannot be built yet, only x86-64 can")
        if self.drivers is not Drivers.CLOUD and re.match(r"linux-image-(.*-)?cloud-", self.kernel):
            raise ValueError(
                f"drivers: {self.drivers.value} needs another kernel: {self.kernel} is built without most drivers of "
                f"servers; write kernel: {GENERIC_KERNEL}"
            )
        time_service(self.time, self.packages)
        EtcPolicy(self.etc, self.etc_keep)
        # They lay plain folders of /var over /etc and /usr, whatever signatures they ask of disk images.
        merging = {"systemd-confext.service", "systemd-sysext.service"}.intersection(self.services.enable)
        if merging and self.etc is not EtcMode.OVERLAY:
            raise ValueError(
                f"services.enable: {min(merging)} takes unsigned extensions from /var, so it needs etc: overlay"
            )
        check_removals(keep=self.keep, drop=self.drop, keep_modules=self.keep_modules, drop_modules=self.drop_modules)
        seen: set[str] = set()
        for path in [file.path.on_host for file in self.files] + [unit.path for unit in self.units]:
            if path in seen:
                raise ValueError(f"{path} is given twice in files and units")
            seen.add(path)
        if problems := (
            *account_problems(self.users, self.groups),
            *problems_between(self.components, self.sources),
        ):
            raise ValueError("; ".join(problems))


def load_definition(folder: Path) -> ImageDefinition:
    """Read the definition in `folder`.

    Raises:
        DocumentError: There is none, it has errors, or it names files that do not exist; all errors are listed.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        error = DocumentError(str(path), (Problem("", "no such file: this folder is not an image definition"),))
        error.add_note("`twinhull init DIR` writes one to start from")
        raise error
    said = strict.parse_yaml(path.read_bytes(), source=str(path))
    definition = strict.read(ImageDefinition, said, source=str(path))
    problems = [
        Problem(f"files[{index}].source", f"{folder / file.source} is not a file")
        for index, file in enumerate(definition.files)
        if file.source is not None and not (folder / file.source).is_file()
    ]
    problems += _missing_inputs(folder, definition)
    problems += files_without_effect(folder)
    checked = definition.updater.health.engine if _says(said, "updater", "health", "engine") else None
    problems += engine_problems(definition.containers, checked)
    problems += key_problems(definition.containers, folder)
    problems += [Problem(f"provision.{where}", what) for where, what in definition.provision.problems(folder)]
    if problems:
        raise DocumentError(str(path), tuple(problems))
    return definition


def _says(document: object, *keys: str) -> bool:
    """Whether a document has a key, whose default means the same as its absence."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document is not None


def _missing_inputs(folder: Path, definition: ImageDefinition) -> Iterator[Problem]:
    """Problems for key files and packages that the definition's folder lacks."""
    for index, source in enumerate(definition.sources):
        if not (folder / source.signed_by).is_file():
            yield Problem(f"sources[{index}].signed_by", f"{folder / source.signed_by} is not a file")
    for index, entry in enumerate(definition.packages):
        if is_local(entry) and not (folder / entry).is_file():
            yield Problem(f"packages[{index}]", f"{folder / entry} is not a file")


def definition_digest(folder: Path) -> str:
    """SHA-256 over the definition's files, which of them are executable, and links.

    Excluded are `.git`, the lock, whose packages are hashed separately, and the schema, which is for editors.
    """
    digest = hashlib.sha256()
    for name in definition_files(folder):
        path = folder / name
        executable = not path.is_symlink() and is_executable(path)
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        digest.update(f"{name}\0{executable:d}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def is_executable(path: Path) -> bool:
    """Whether a file is executable, the only part of its mode that git keeps and that counts."""
    return bool(path.stat().st_mode & 0o111)


def definition_files(folder: Path) -> Iterator[Path]:
    """The files and links of a definition by their relative paths, sorted; without `.git`, lock and schema."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if (
            ".git" not in parts
            and parts not in {(LOCK_FILE,), (SCHEMA_FILE,)}
            and (path.is_symlink() or path.is_file())
        ):
            yield path.relative_to(folder)
