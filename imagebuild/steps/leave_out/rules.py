"""The leave-out set: `data/leave-out.yaml`, read strictly."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Annotated

from bedrock import strict
from imagebuild.definition.image import DropPath, ModulePath
from imagebuild.paths import DATA
from imagebuild.steps.leave_out.patterns import covers, matches

RULES_FILE = DATA / "leave-out.yaml"
Text = Annotated[str, strict.Pattern(r"\S(.*\S)?", "text in one line")]
PackageText = Annotated[str, strict.Pattern(r"[a-z0-9][a-z0-9+.-]*", "a Debian package name")]


class SectionKind(Enum):
    """The kind of a section, which decides what keeps its files."""

    NEVER = "never"
    DOCUMENTATION = "documentation"
    LIBRARY = "library"
    INTERPRETER = "interpreter"
    PROGRAM = "program"
    TOOL = "tool"
    DATA = "data"
    UNIT = "unit"

    def stays_with(self, *, by_name: bool) -> bool:
        """Whether a requested package, or a dependency of one, keeps its own files of this kind."""
        return self not in {SectionKind.NEVER, SectionKind.DOCUMENTATION} and (by_name or self is not SectionKind.TOOL)


@dataclass(frozen=True)
class LeaveOutSection:
    """A part of the leave-out set; see the head of the file."""

    name: Text
    kind: SectionKind
    why: Text
    paths: tuple[DropPath, ...]
    together: bool = False
    follows: tuple[DropPath, ...] = ()
    packages: tuple[PackageText, ...] = ()

    @cached_property
    def covers(self) -> Callable[[str], bool]:
        """Whether a path belongs to it."""
        return covers(self.paths)

    @cached_property
    def is_led_by(self) -> Callable[[str], bool]:
        """Whether it stays when this path stays."""
        return matches(self.follows)


@dataclass(frozen=True)
class NeededModules:
    """Kernel modules that these packages need, but that are left out otherwise."""

    packages: tuple[PackageText, ...]
    modules: tuple[ModulePath, ...]


@dataclass(frozen=True)
class Rules:
    """The leave-out set."""

    sections: tuple[LeaveOutSection, ...]
    modules: tuple[NeededModules, ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """All paths of all sections."""
        return tuple(path for section in self.sections for path in section.paths)

    def section_of(self, path: str) -> LeaveOutSection | None:
        """The first section that a path belongs to; None when it is not in the leave-out set."""
        return next((section for section in self.sections if section.covers(path)), None)

    def modules_of(self, packages: Collection[str]) -> tuple[str, ...]:
        """The modules of the leave-out set that some packages need."""
        return tuple(
            dict.fromkeys(name for row in self.modules if set(row.packages) & set(packages) for name in row.modules)
        )


def load_rules() -> Rules:
    """Twinhull's own leave-out set.

    Raises:
        DocumentError: It has errors.
    """
    return strict.load_yaml(Rules, RULES_FILE)
