"""Chooses the initrd's kernel modules: those every host needs, the drivers of its disks, and their dependencies.

They are read from the indexes that depmod and the kernel's build write, and chosen by pure functions.
Soft dependencies are ignored: busybox's modprobe does not know them.
Source: modules.dep(5), modprobe.d(5); aliases are fnmatch patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from imagebuild.definition.config import module_expression
from imagebuild.definition.drivers import Disks, Drivers
from imagebuild.definition.initrd import InitrdContent
from imagebuild.errors import BuildError

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class KernelModules:
    """A kernel's modules by name, with `_` for `-`.

    Attributes:
        files: Their paths below the kernel's folder, such as `kernel/fs/erofs/erofs.ko`.
        needs: The names of all that each needs, whatever that needs among them.
        aliases: Patterns of device names, and the module that drives what matches.
        built_in: Paths of what the kernel itself holds, by name.
    """

    files: Mapping[str, str]
    needs: Mapping[str, tuple[str, ...]]
    aliases: tuple[tuple[str, str], ...]
    built_in: Mapping[str, str]


@dataclass(frozen=True)
class Choice:
    """The modules for an initrd by name, what they need among them; and the kinds of disks that have no driver."""

    modules: frozenset[str]
    lacking: tuple[str, ...]


def read_modules(folder: Path) -> KernelModules:
    """Read the indexes in a kernel's folder, `/usr/lib/modules/VERSION`.

    Raises:
        BuildError: One is missing.
    """
    try:
        dependencies = (folder / "modules.dep").read_text()
        aliases = (folder / "modules.alias").read_text()
        built_in = (folder / "modules.builtin").read_text().split()
    except OSError as error:
        raise BuildError(f"the kernel's modules have no index: {error}") from error
    rows = [line.partition(":") for line in dependencies.splitlines()]
    return KernelModules(
        files={_name(path): path for path, _, _ in rows},
        needs={_name(path): tuple(map(_name, needed.split())) for path, _, needed in rows},
        aliases=tuple(_listed_aliases(aliases)),
        built_in={_name(path): path for path in built_in},
    )


def choose_modules(kernel: KernelModules, content: InitrdContent, drivers: Drivers) -> Choice:
    """The modules of an initrd with these drivers.

    Raises:
        BuildError: The kernel lacks a module that every host needs.
    """
    wanted = {spelled(name) for name in content.modules}
    if missing := sorted(wanted - kernel.files.keys() - kernel.built_in.keys()):
        raise BuildError(f"the initrd needs kernel modules that the image lacks: {', '.join(missing)}").with_hint(
            "leave them out of drop_modules in image.yaml"
        )
    wanted |= {spelled(name) for name in content.extras}
    lacking = []
    for kind, disks in content.disks.items():
        if disks.set in drivers:
            found = drivers_of(kernel, disks)
            wanted |= found
            if not found and not has_built_in(kernel, disks):
                lacking.append(kind)
    modules = wanted & kernel.files.keys()
    needed = {name for module in modules for name in kernel.needs[module]}
    return Choice(frozenset(modules | needed), tuple(lacking))


def drivers_of(kernel: KernelModules, disks: Disks) -> frozenset[str]:
    """The modules that drive disks of a kind, without what they need."""
    found = {module for pattern, module in kernel.aliases if _matches(disks.devices, pattern)}
    driving = {module for pattern, module in kernel.aliases if pattern.partition(":")[0].rstrip("*") in disks.buses}
    below, avoided = _places(disks.folders), {spelled(name) for name in disks.without}
    found |= {module for module in driving if below(kernel.files.get(module, ""))}
    return frozenset(
        module for module in found if module in kernel.files and not avoided.intersection(kernel.needs[module])
    )


def has_built_in(kernel: KernelModules, disks: Disks) -> bool:
    """Whether the kernel itself drives disks of a kind."""
    return any(map(_places((*disks.built_in, *disks.folders)), kernel.built_in.values()))


def spelled(module: str) -> str:
    """A module's name in one spelling: the kernel takes `-` and `_` for the same."""
    return module.replace("-", "_")


def _matches(devices: Iterable[str], pattern: str) -> bool:
    """Whether a pattern matches one of the devices; most of the thousands differ before their first wildcard."""
    start = _WILDCARD.split(pattern, maxsplit=1)[0]
    return any(device.startswith(start) and fnmatchcase(device, pattern) for device in devices)


def _places(folders: Iterable[str]) -> Callable[[str], bool]:
    """Whether a module's path is in one of these folders."""
    expressions = [re.compile(module_expression(folder)) for folder in folders]
    return lambda path: any(each.search(path.removeprefix("kernel/")) for each in expressions)


def _name(path: str) -> str:
    return spelled(path.rpartition("/")[2].partition(".")[0])


def _listed_aliases(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        pattern, _, module = rest.rpartition(" ")
        if word == "alias":
            yield pattern, spelled(module)
