"""Proposals as lines of `image.yaml`: what a person wrote there, comments and order included, stays as it is.

The text is changed by ruamel.yaml, which keeps comments; the strict reader then judges the new text, and only what it
reads as the old definition with these lines more is written.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from bedrock import strict
from bedrock.persist import write_atomic
from imagebuild.definition import FILE_NAME, ImageDefinition
from imagebuild.errors import TrimError
from imagebuild.trim.proposals import Proposal

DROP, DROP_MODULES = "drop", "drop_modules"
_WIDTH = 4096


def lines_of(proposals: Iterable[Proposal]) -> dict[str, tuple[str, ...]]:
    """What is to be added under which key, sorted, each line once."""
    found: dict[str, set[str]] = {DROP: set(), DROP_MODULES: set()}
    for proposal in proposals:
        found[DROP_MODULES if proposal.modules else DROP].update(proposal.lines)
    return {key: tuple(sorted(lines)) for key, lines in found.items() if lines}


def added_text(lines: Mapping[str, Iterable[str]]) -> str:
    """The lines as YAML, for a person to look at."""
    text = io.StringIO()
    _yaml().dump({key: list(values) for key, values in lines.items()}, text)
    return text.getvalue()


def with_lines(text: str, lines: Mapping[str, Iterable[str]], *, source: str) -> str:
    """The text of an `image.yaml` with these lines added under their keys, those that are there already left alone.

    Raises:
        DocumentError: The text was no definition before, or would be none after.
        TrimError: It cannot be changed without changing anything else.
    """
    before = strict.read_yaml(ImageDefinition, text, source=source)
    yaml = _yaml()
    document = yaml.load(text)
    for key, values in lines.items():
        there = document.get(key)
        new = [value for value in values if value not in (there or [])]
        if there:
            _append(there, new)
        elif new:
            _set(document, key, new)
    changed = io.StringIO()
    yaml.dump(document, changed)
    after = strict.read_yaml(ImageDefinition, changed.getvalue(), source=source)
    wanted = dataclasses.replace(
        before,
        drop=_merged(before.drop, lines.get(DROP, ())),
        drop_modules=_merged(before.drop_modules, lines.get(DROP_MODULES, ())),
    )
    if after != wanted:
        raise TrimError(f"{source} cannot be changed without changing more than {' and '.join(lines)}").with_hint(
            "add the lines by hand"
        )
    return changed.getvalue()


def write_lines(definition: Path, lines: Mapping[str, Iterable[str]]) -> Path:
    """Add these lines to the `image.yaml` of the definition's folder, on the disk, in one step; its path.

    Raises:
        DocumentError: It is no definition.
        TrimError: It cannot be changed without changing anything else.
    """
    path = definition / FILE_NAME
    mode = path.stat().st_mode & 0o777
    write_atomic(path, with_lines(path.read_text(), lines, source=str(path)), mode=mode)
    return path


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    return yaml


def _append(there: Any, new: list[str]) -> None:
    # `[]` and `[a, b]` would otherwise become one endless line.
    there.fa.set_block_style()
    there.extend(new)


def _set(document: Any, key: str, new: list[str]) -> None:
    sequence = CommentedSeq(new)
    if key in document:
        document[key] = sequence
    elif key == DROP_MODULES and DROP in document:
        document.insert(list(document).index(DROP) + 1, key, sequence)
    else:
        document[key] = sequence


def _merged(before: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return (*before, *(line for line in more if line not in before))
