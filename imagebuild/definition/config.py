"""Turns an image definition into the configuration of mkosi and systemd-repart.

Everything those tools can express is written as their files into the build's folder, where a person can read them:

    config/tree/      mkosi: the package tree of the root filesystem
    config/root/      systemd-repart: root filesystem and verity tree
    config/disk/      systemd-repart: the whole disk
    config/esp/       the files on the ESP next to systemd-boot
Pure: text and names out of values; writing is `pipeline.py`'s.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from imagebuild.definition.base import checked_engine
from imagebuild.definition.host import UTC
from imagebuild.definition.image import BuildProfile, ImageDefinition
from imagebuild.definition.reset import RESET_ARGUMENT
from imagebuild.definition.sources import is_local
from partitions.entries import ENTRIES_FOLDER
from partitions.layout import (
    BUILT_ESP_UUID,
    BUILT_XBOOTLDR_UUID,
    EMPTY_LABEL,
    ESP_LABEL,
    XBOOTLDR_LABEL,
    identity_of,
    slot_label,
)
from partitions.version import Version

# no_timer_check: the kernel's test of the legacy timer counts ticks against the processor's clock; in a virtual machine
# whose host is busy the ticks come late, and the kernel takes that for broken hardware and panics.
# cryptomgr.notests: as in the kernel's own default configuration, ciphers are not tested again at every boot (in FIPS
# mode they still are); what dm-verity computes is compared with the root hash anyway.
# watchdog_thresh and what follows: a processor that is busy in the kernel for two minutes, or takes no interrupt for
# one, hangs, and a hang is a panic; a busy hypervisor may take a processor away for seconds.
# gpt: where the first partition table of a disk is damaged, the kernel reads the second.
ARGUMENTS = (
    "ro",
    "gpt",
    "systemd.gpt_auto=no",
    "panic=10",
    "oops=panic",
    "watchdog_thresh=60",
    "softlockup_panic=1",
    "nmi_watchdog=panic",
    "no_timer_check",
    "cryptomgr.notests",
    "quiet",
    "console=tty0",
    "console=ttyS0,115200",
)
UPDATER_FILE = "/usr/lib/twinhull/updater.yaml"
ROOT_OF_TRUST_FILE = "/usr/lib/twinhull/root.json"


@dataclass(frozen=True)
class Folders:
    """The folders that mkosi uses on the build host."""

    output: Path
    archive: Path
    cache: Path
    packages: Path
    workspace: Path


def tree_config(
    definition: ImageDefinition,
    *,
    version: Version,
    folders: Folders,
    extra: Path,
    base: str,
    scripts: Path,
    merged: Path | None,
    profile: BuildProfile | None,
    epoch: int,
    local: Mapping[str, str],
    needed_modules: Iterable[str] = (),
) -> str:
    """`mkosi.conf` of the root filesystem.

    `merged` is the definition's own mkosi configuration, `local` says which package each of its files holds, and
    `needed_modules` what its packages need of the kernel modules that every other image goes without.
    """
    text = _preamble(definition, folders, epoch=epoch)
    text += f"[Output]\nFormat=directory\nOutput=tree\nImageVersion={version}\nManifestFormat=\n\n"
    text += base + "\n[Content]\n"
    text += f"Locale={definition.locale}\nTimezone={UTC}\n"
    text += _list("Packages", wanted_packages(definition, local))
    text += _list("KernelModulesExclude", map(module_expression, definition.drop_modules))
    kept = map(module_expression, kept_modules(definition, needed_modules))
    text += _list("KernelModulesInclude", (*kept, *map(module_name_expression, definition.modules)))
    text += f"ExtraTrees={extra}:/\n"
    text += f"PrepareScripts={scripts / 'modules.prepare'}\n"
    text += f"PostInstallationScripts={scripts / 'packages.postinst'},{scripts / 'state.postinst'}\n"
    text += f"FinalizeScripts={scripts / 'kernel.finalize'},{scripts / 'setuid.finalize'}\n"
    return text + _profile(profile) + _include(merged)


def asking_config(
    definition: ImageDefinition,
    *,
    base: str,
    local: Mapping[str, str],
    profile: BuildProfile | None = None,
    merged: Path | None = None,
) -> str:
    """The least `mkosi.conf` from which mkosi can tell which packages the root filesystem asks for.

    What mkosi makes up itself where nothing is said (a name, a random seed) is said, so that two answers compare.
    """
    text = f"[Distribution]\nDistribution=debian\nRelease={definition.release}\n"
    text += f"Architecture={definition.architecture.value}\n\n"
    text += f"[Output]\nFormat=directory\nOutput=tree\nImageId={definition.id}\nSeed={uuid.UUID(int=0)}\n\n"
    text += f"[Build]\nBuildSources=\nWithNetwork=no\n\n{base}\n[Content]\n"
    text += _list("Packages", (_name(entry, local) for entry in requested_packages(definition)))
    return text + _profile(profile) + _include(merged)


def wanted_packages(definition: ImageDefinition, local: Mapping[str, str]) -> tuple[str, ...]:
    """The definition's packages by name: the archive they are installed from holds one version of each."""
    return tuple(installed_name(entry, local) for entry in requested_packages(definition))


def requested_packages(definition: ImageDefinition) -> tuple[str, ...]:
    """What the definition asks for beyond what every image has, as it is written there."""
    own = (*definition.packages, *definition.implied_packages)
    chosen = (*chosen_packages(definition), *definition.hardening.packages)
    return tuple(dict.fromkeys((definition.kernel, *chosen, *own)))


def chosen_packages(definition: ImageDefinition) -> tuple[str, ...]:
    """The packages of the container engine and of what sets the clock."""
    return tuple(name for part in definition.chosen for name in part.packages)


def module_expression(pattern: str) -> str:
    """A module pattern of `image.yaml` as a regular expression over paths below `kernel/`, as mkosi searches them."""
    expression = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\-", "-")
    return f"^{expression}" if pattern.endswith("/") else f"^{expression}$"


def module_name_expression(name: str) -> str:
    """A kernel module's name, in either spelling, as such a regular expression."""
    return rf"(^|/){re.sub('[_-]', '[_-]', name)}\.ko$"


def kept_modules(definition: ImageDefinition, needed: Iterable[str]) -> tuple[str, ...]:
    """Kernel modules that stay: `keep_modules`, and what packages need and `drop_modules` does not name."""

    def is_dropped(pattern: str) -> bool:
        lines = definition.drop_modules
        return any(pattern == line or (line.endswith("/") and pattern.startswith(line)) for line in lines)

    return (*definition.keep_modules, *(each for each in needed if not is_dropped(each)))


def kernel_arguments(definition: ImageDefinition, root_hash: str) -> str:
    """The kernel command line of the UKI."""
    return _command_line(definition, root_hash)


def rescue_arguments(definition: ImageDefinition, root_hash: str) -> str:
    """The kernel command line of the rescue entry: the same system, up to a root shell on the console."""
    return _command_line(definition, root_hash, "systemd.unit=rescue.target")


def _command_line(definition: ImageDefinition, root_hash: str, *more: str) -> str:
    hardening = definition.hardening
    arguments = (*ARGUMENTS, *hardening.arguments, *definition.kernel_arguments, *more, *hardening.last_arguments)
    return " ".join((f"roothash={root_hash}", *arguments))


def reset_arguments(definition: ImageDefinition, root_hash: str) -> str:
    """The kernel command line of the entry that resets the host and then starts it as usual."""
    return _command_line(definition, root_hash, RESET_ARGUMENT)


def root_partitions() -> dict[str, str]:
    """systemd-repart definitions that make the root filesystem and its verity tree, each just as large as needed."""
    root = """
        [Partition]
        Type=root
        Format=erofs
        CopyFiles=/
        Minimize=best
        Verity=data
        VerityMatchKey=root
        SplitName=root
        """
    verity = """
        [Partition]
        Type=root-verity
        Verity=hash
        VerityMatchKey=root
        Minimize=best
        SplitName=verity
        """
    return {"10-root.conf": _dedent(root), "20-root-verity.conf": _dedent(verity)}


def disk_partitions(definition: ImageDefinition, *, version: Version, root_hash: str) -> dict[str, str]:
    """systemd-repart definitions of the disk, in the order the agent expects; slot A holds the release."""
    identity = identity_of(root_hash)
    slots = definition.slots
    label = slot_label(definition.id, version)
    esp = _partition("esp", ESP_LABEL, slots.esp, (f"UUID={BUILT_ESP_UUID}", "Format=vfat", "CopyFiles=/esp:/"))
    uki = (f"UUID={BUILT_XBOOTLDR_UUID}", "Format=vfat", "CopyFiles=/xbootldr:/", "NoAuto=yes")
    boot = _partition("xbootldr", XBOOTLDR_LABEL, slots.boot, uki)
    data_a = ("CopyBlocks=/root.erofs", f"UUID={identity.data_uuid}", "ReadOnly=yes")
    tree_a = ("CopyBlocks=/root.verity", f"UUID={identity.verity_uuid}", "ReadOnly=yes")
    return {
        "10-esp.conf": esp,
        "20-xbootldr.conf": boot,
        "30-root-a.conf": _partition("root", label, slots.root, data_a),
        "31-root-a-verity.conf": _partition("root-verity", label, slots.verity, tree_a),
        "40-root-b.conf": _partition("root", EMPTY_LABEL, slots.root, ("NoAuto=yes",)),
        "41-root-b-verity.conf": _partition("root-verity", EMPTY_LABEL, slots.verity, ("NoAuto=yes",)),
    }


def entry_path(file_name: str) -> str:
    """Where a UKI is on the boot partition, from its root."""
    return f"{ENTRIES_FOLDER.lstrip('/')}/{file_name}"


def baked_updater(definition: ImageDefinition) -> bytes:
    """The agent's lowest configuration layer (JSON is YAML)."""
    engine = checked_engine(definition.containers.engine, definition.updater.health.engine)
    health = dataclasses.replace(definition.updater.health, engine=engine)
    return strict.dump_json(dataclasses.replace(definition.updater, health=health))


def installed_name(entry: str, local: Mapping[str, str]) -> str:
    """The name that the package of an entry of `packages:` has."""
    return _name(entry, local).partition("/")[0]


def _name(entry: str, local: Mapping[str, str]) -> str:
    """What apt calls an entry of `packages:`; `local` says which package a file of the definition holds."""
    return local[entry.removeprefix("./")] if is_local(entry) else entry


def _preamble(definition: ImageDefinition, folders: Folders, *, epoch: int) -> str:
    text = f"""
        [Distribution]
        Distribution=debian
        Release={definition.release}
        Architecture={definition.architecture.value}
        LocalMirror=file://{folders.archive}

        [Output]
        ImageId={definition.id}
        OutputDirectory={folders.output}

        [Build]
        BuildSources=
        CacheDirectory={folders.cache}
        PackageCacheDirectory={folders.packages}
        WorkspaceDirectory={folders.workspace}
        Incremental=yes
        WithNetwork=no
        Environment=INITRD=No TWINHULL_SETUID={":".join(definition.hardening.setuid)}

        [Content]
        SourceDateEpoch={epoch}

        """
    return _dedent(text)


def _profile(profile: BuildProfile | None) -> str:
    return "\n[Content]\nPackages=login\n" if profile is BuildProfile.DEBUG else ""


def _include(merged: Path | None) -> str:
    return f"\n[Include]\nInclude={merged}\n" if merged else ""


def _partition(kind: str, label: str, size: int, more: Iterable[str]) -> str:
    lines = (f"Type={kind}", f"Label={label}", f"SizeMinBytes={size}", f"SizeMaxBytes={size}", *more)
    return "[Partition]\n" + "".join(f"{line}\n" for line in lines)


def _list(name: str, values: Iterable[str]) -> str:
    lines = [f"        {value}\n" for value in values]
    return f"{name}=\n{''.join(lines)}" if lines else ""


def _dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")
