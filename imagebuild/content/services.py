"""Units of packages: checks the ones the definition names, and lists packages without a starting unit.

Only the units that every Twinhull image enables start by themselves; a definition enables more with `services`.
Which are enabled in the built tree is systemctl's own answer.
Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bedrock import strict
from imagebuild.definition.baked import template_of
from imagebuild.definition.host import Services

_CAN_BE_ENABLED = ("enabled", "enabled-runtime", "linked", "disabled", "indirect")
_STARTS = ("enabled", "enabled-runtime", "linked")
_NEAR = 3


@dataclass(frozen=True)
class UnitFile:
    """A unit file as `systemctl list-unit-files` shows it."""

    unit_file: str
    state: str
    preset: str | None


@dataclass(frozen=True)
class _UnitFiles:
    rows: tuple[UnitFile, ...]


def read_unit_files(text: str) -> dict[str, UnitFile]:
    """Unit files by name, from systemctl's JSON.

    Raises:
        DocumentError: It is something else.
    """
    source = "systemctl list-unit-files"
    found = strict.read(_UnitFiles, {"rows": strict.parse_json(text, source=source)}, source=source)
    return {row.unit_file: row for row in found.rows}


def service_problems(services: Services, units: Mapping[str, UnitFile], files: Collection[str]) -> tuple[str, ...]:
    """Problems for units in `services` that the image does not have, or that cannot be enabled.

    Args:
        services: What the definition says.
        units: The unit files of the image.
        files: Names of unit files that packages and the definition brought; a mask is not among them.
    """
    problems = []
    for key in ("enable", "disable", "mask"):
        for index, name in enumerate(getattr(services, key)):
            where, file = f"services.{key}[{index}]", template_of(name)
            if file not in files:
                problems.append(f"{where}: no package of the image has a unit {file}{_nearest(file, files)}")
            elif key == "enable":
                problems += _enable_problems(where, name, units.get(file))
    return tuple(problems)


def disabled_services(
    units: Mapping[str, UnitFile], owners: Mapping[str, str], asked: Collection[str], services: Services
) -> dict[str, tuple[str, ...]]:
    """The packages whose units do not start and are not named in the definition, with the units that could start.

    Units of one package are often alternatives (a service and its socket), so one that starts is enough.

    Args:
        units: The unit files of the image.
        owners: The packages that own unit files, by name.
        asked: The packages that the definition requests.
        services: What the definition says.
    """
    spoken = {template_of(name) for name in (*services.enable, *services.disable, *services.mask)}
    settled = {owners.get(name) for name, unit in units.items() if name in spoken or unit.state in _STARTS}
    found: dict[str, list[str]] = {}
    for name, unit in sorted(units.items()):
        package = owners.get(name)
        if unit.state == "disabled" and package is not None and package in asked and package not in settled:
            found.setdefault(package, []).append(name)
    return {package: tuple(names) for package, names in sorted(found.items())}


def _enable_problems(where: str, name: str, unit: UnitFile | None) -> Iterable[str]:
    state = unit.state if unit else "unknown"
    if state == "alias":
        yield f"{where}: {name} is another name of a unit; name the unit itself"
    elif state == "static":
        yield f"{where}: {name} has no [Install] section: other units start it, and it cannot be enabled"
    elif state not in _CAN_BE_ENABLED:
        yield f"{where}: {name} cannot be enabled, systemctl calls it {state}"


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=_NEAR, cutoff=0.7)
    return f"; near it are {', '.join(near)}" if near else ""
