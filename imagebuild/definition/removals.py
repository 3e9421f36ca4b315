"""Checks `keep`, `drop` and their counterparts for kernel modules together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath


def check_removals(
    *, keep: Iterable[str], drop: Iterable[str], keep_modules: Iterable[str], drop_modules: Iterable[str]
) -> None:
    """Check the lines of an `image.yaml` that say what stays and what goes.

    Raises:
        ValueError: A line leaves the image, names no module, or is under both.
    """
    paths, modules = {"keep": keep, "drop": drop}, {"keep_modules": keep_modules, "drop_modules": drop_modules}
    for key, lines in paths.items():
        for line in lines:
            if ".." in PurePosixPath(line).parts:
                raise ValueError(f"{key} must not hold {line!r}, which leaves the image")
    for key, lines in modules.items():
        for line in lines:
            if not any(map(str.isalnum, line.removesuffix(".ko"))) or ".." in PurePosixPath(line).parts:
                raise ValueError(f"{key} must not hold {line!r}: it names no module of its own")
    for (kept, first), (dropped, second) in (tuple(paths.items()), tuple(modules.items())):
        if both := sorted(set(first) & set(second)):
            raise ValueError(f"{', '.join(both)}: under both {kept} and {dropped}")
