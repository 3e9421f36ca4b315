"""Files of a definition that would replace one from a package or from Twinhull.

Such a file replaces the other silently: updates of the package no longer change it.  So the definition must say
`replace: true`.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from imagebuild.definition.image import ImageDefinition


def overwrite_problems(
    definition: ImageDefinition, packages: Mapping[str, str], own: Collection[str]
) -> tuple[str, ...]:
    """Problems for files that a definition would overwrite without saying so.

    Args:
        definition: The definition.
        packages: The packages that own a path, by the path in an image with merged `/usr`.
        own: The files that every Twinhull image has.
    """
    problems = []
    for index, file in enumerate(definition.files):
        if (owner := _owner(file.path.on_host, packages, own)) and not file.replace:
            problems.append(
                f"files[{index}]: {file.path.on_host} is a file of {owner}; say `replace: true` to replace it"
            )
        elif file.replace and owner is None:
            problems.append(
                f"files[{index}]: {file.path.on_host} is a file of no package, so there is nothing to replace"
            )
    for index, unit in enumerate(definition.units):
        if owner := _owner(unit.path, packages, own):
            problems.append(
                f"units[{index}]: {unit.path} is a file of {owner}; change it with a drop-in"
                f" (files: /etc/systemd/system/{unit.name}.d/10-image.conf), or give it in files with `replace: true`"
            )
    return tuple(problems)


def _owner(path: str, packages: Mapping[str, str], own: Collection[str]) -> str | None:
    if path in own:
        return "every Twinhull image"
    package = packages.get(path)
    return f"the package {package}" if package else None
