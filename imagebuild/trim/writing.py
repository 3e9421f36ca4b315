"""Adds proposals to `image.yaml` as lines: every byte that a person wrote there stays, including comments and order.

PyYAML's parser shows where a list ends, and the new items are inserted there as text; the result is written only if
the strict reader reads it as the old definition with these additional lines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from bedrock import strict
from bedrock.errors import DocumentError
from bedrock.persist import write_atomic
from imagebuild.definition.image import FILE_NAME, ImageDefinition
from imagebuild.errors import TrimError
from imagebuild.trim.proposals import Proposal

DROP, DROP_MODULES = "drop", "drop_modules"
_WIDTH = 4096


def lines_of(proposals: Iterable[Proposal]) -> dict[str, tuple[str, ...]]:
    """The lines to add per key, sorted, each line once."""
    found: dict[str, set[str]] = {DROP: set(), DROP_MODULES: set()}
    for proposal in proposals:
        found[DROP_MODULES if proposal.modules else DROP].update(proposal.lines)
    return {key: tuple(sorted(lines)) for key, lines in found.items() if lines}


def added_text(lines: Mapping[str, Iterable[str]]) -> str:
    """The lines as YAML, for a person to look at."""
    return "".join(f"{key}:\n{_items(values)}" for key, values in lines.items())


def with_lines(text: str, lines: Mapping[str, Iterable[str]], *, source: str) -> str:
    """The text of an `image.yaml` with these lines added under their keys; what is there already is not added again.

    Raises:
        DocumentError: The text is not a definition, or a line is not valid.
        TrimError: It cannot be changed without changing anything else.
    """
    before = strict.read_yaml(ImageDefinition, text, source=source)
    strict.read(ImageDefinition, {"id": "x", **lines}, source="the lines to add")
    changed = text
    for key in (DROP, DROP_MODULES):
        there = getattr(before, key)
        if new := [line for line in lines.get(key, ()) if line not in there]:
            changed = _with_items(changed, key, new, source=source)
    try:
        after = strict.read_yaml(ImageDefinition, changed, source=source)
    except DocumentError as error:
        raise _by_hand(source) from error
    wanted = dataclasses.replace(
        before,
        drop=_merged(before.drop, lines.get(DROP, ())),
        drop_modules=_merged(before.drop_modules, lines.get(DROP_MODULES, ())),
    )
    if after != wanted:
        raise _by_hand(source)
    return changed


def write_lines(definition: Path, lines: Mapping[str, Iterable[str]]) -> Path:
    """Add these lines to the `image.yaml` of the definition's folder, on the disk, in one step; its path.

    Raises:
        DocumentError: It is not a definition.
        TrimError: It cannot be changed without changing anything else.
    """
    path = definition / FILE_NAME
    text = path.read_bytes().decode()
    write_atomic(path, with_lines(text, lines, source=str(path)), mode=path.stat().st_mode & 0o777)
    return path


def _with_items(text: str, key: str, new: list[str], *, source: str) -> str:
    values = _values(text)
    found = values.get(key)
    if found is None:
        return _with_key(text, values.get(DROP), f"{key}:\n{_items(new)}")
    if not isinstance(found, yaml.SequenceNode):
        raise _by_hand(source)
    if not found.flow_style:
        return _inserted(text, found, _items(new, indent=found.start_mark.column))
    start, end = found.start_mark.index, found.end_mark.index
    if "#" in text[start:end]:
        raise _by_hand(source)
    # A list in brackets becomes one of lines; a comment after it stays next to the key.
    rest, newline, below = text[end:].partition("\n")
    there = "".join(f"- {text[item.start_mark.index : item.end_mark.index]}\n" for item in found.value)
    return f"{text[:start].rstrip()}{rest}\n{there}{_items(new)}{below if newline else ''}"


def _with_key(text: str, drop: yaml.Node | None, added: str) -> str:
    """A new key behind the list under `drop`, or at the end."""
    if isinstance(drop, yaml.SequenceNode) and not drop.flow_style:
        return _inserted(text, drop, added)
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}{added}"


def _inserted(text: str, sequence: yaml.SequenceNode, added: str) -> str:
    """The text with lines added below the last item of a list in block style."""
    lines = text.splitlines(keepends=True)
    last = sequence.value[-1].end_mark.line
    if not lines[last].endswith("\n"):
        lines[last] += "\n"
    return "".join((*lines[: last + 1], added, *lines[last + 1 :]))


def _values(text: str) -> dict[str, yaml.Node]:
    """The values of a document by their keys, with their places in the text."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return {key.value: value for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}


def _items(values: Iterable[str], *, indent: int = 0) -> str:
    dumped = yaml.safe_dump(list(values), width=_WIDTH, allow_unicode=True)
    return "".join(f"{' ' * indent}{line}\n" for line in dumped.splitlines())


def _merged(before: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return (*before, *(line for line in more if line not in before))


def _by_hand(source: str) -> TrimError:
    error = TrimError(f"{source} is written in a way that cannot be added to without changing something else")
    error.add_note("add the lines by hand")
    return error
