"""What is kept even if untouched: Twinhull's own list, the initrd's modules, and the definition's own entries.

The list is `data/keep.yaml`: sections of paths and kernel modules, each with the reason why no test touches them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bedrock import strict
from imagebuild.definition.image import DropPath, ModulePath, Trim
from imagebuild.definition.initrd import load_content
from imagebuild.paths import DATA
from imagebuild.trim.patterns import module_keeper, module_name, path_keeper

KEEP_FILE = DATA / "keep.yaml"


@dataclass(frozen=True)
class KeepSection:
    """A part of the list: its subject, and why no test touches it."""

    name: str
    why: str
    paths: tuple[DropPath, ...] = ()
    modules: tuple[ModulePath, ...] = ()


@dataclass(frozen=True)
class KeepFile:
    """The list as it is written."""

    sections: tuple[KeepSection, ...]


@dataclass(frozen=True)
class KeepList:
    """Paths, places of kernel modules, and names of kernel modules (spelled with `_`) that are kept."""

    paths: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    module_names: frozenset[str] = frozenset()

    @cached_property
    def keeps(self) -> Callable[[str], bool]:
        """Whether a file of the image is kept."""
        return path_keeper(self.paths)

    @cached_property
    def keeps_place(self) -> Callable[[str], bool]:
        """Whether a kernel module is kept because of its path below `kernel/`."""
        return module_keeper(self.modules)

    def keeps_module(self, place: str) -> bool:
        """Whether a kernel module, given by its place below `kernel/`, is kept."""
        return module_name(place) in self.module_names or self.keeps_place(place)

    def with_own(self, own: Trim, *, paths: tuple[str, ...] = (), modules: tuple[str, ...] = ()) -> KeepList:
        """The same with what an image definition keeps as well: from trimming (`own`), and from being left out."""
        return replace(
            self,
            paths=(*self.paths, *own.keep, *paths),
            modules=(*self.modules, *own.keep_modules, *modules),
        )


def load_keep_list(path: Path = KEEP_FILE) -> KeepList:
    """Twinhull's own list, or another one.

    The modules of the initrd are taken from the package tree, so they belong to it.

    Raises:
        DocumentError: The list has errors.
    """
    sections, initrd = strict.load_yaml(KeepFile, path).sections, load_content()
    folders = (folder for disks in initrd.disks.values() for folder in disks.folders)
    return KeepList(
        paths=tuple(path for section in sections for path in section.paths),
        modules=tuple(dict.fromkeys((*(module for section in sections for module in section.modules), *folders))),
        module_names=frozenset(name.replace("-", "_") for name in (*initrd.modules, *initrd.extras)),
    )
