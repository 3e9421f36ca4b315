"""Turns the output of the programs that read a definition's files into problems with a line.

These programs warn and go on, so their exit code says little and their output is parsed.  Advice, and problems that
only exist on a running host, are ignored.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from imagebuild.content.sources import DefinitionText

_AT = re.compile(r"^(?:[\w-]+\[\d+\]: )?(?P<path>/[^:\n]+):(?P<line>\d+)(?::[\d-]+)?:? +(?P<message>\S.*)$")
_ABOUT_FILE = re.compile(r"^(?P<message>.*?)[:]? ?\"?(?P<path>/[^\s\":]+\.(?:netdev|network|link))\"?(?P<rest>.*)$")
_ABOUT_UNIT = re.compile(r"^(?P<unit>[\w:.@\\-]+\.[a-z]+): (?P<message>.*)$")
_NOT_FOUND = re.compile(r"^Unit (?P<unit>\S+) not found\.$")
_COMMAND = re.compile(r"Command (?P<path>/\S+) is not executable")
_LACKS = re.compile(r"Unit (?P<unit>\S+\.(?:service|socket|timer|path|target)) not found")
_QUADLET = re.compile(
    r"^quadlet-generator\[\d+\]: (?:converting|error loading|processing) \"(?P<name>[^\"]+)\"[:,] (?P<message>.*)$"
)
_KEY = re.compile(r"key '(?P<key>[^']+)' in group '(?P<group>[^']+)'")
# Advice, and what the host brings at run time.
_ADVICE = re.compile(
    r"obsolete|deprecat|not recommended|legacy|has been removed|is removed|will be removed|Standard output type|"
    r"lacks a native systemd unit|below legacy directory|world-inaccessible|marked (?:executable|world-writable)|"
    r"No such device|Failed to open device",
    re.IGNORECASE,
)
# Where a program can come to be after the first boot.
_LATER = ("/var/", "/opt/", "/srv/", "/home/", "/root/", "/run/", "/tmp/", "/etc/", "/mnt/", "/media/")  # noqa: S108 - names
_TAIL = re.compile(r"[,.]? ?ignoring\.?$|\.? Ignoring\.$", re.IGNORECASE)


def located(output: str, sources: Mapping[str, DefinitionText]) -> Iterator[str]:
    """Problems that name a path and a line."""
    for line in output.splitlines():
        found = _AT.match(line.strip())
        if found and (source := sources.get(found["path"])) and not _ADVICE.search(found["message"]):
            yield source.at(int(found["line"]), _plain(found["message"]))


def about_units(output: str, sources: Mapping[str, DefinitionText], generated: Mapping[str, str]) -> Iterator[str]:
    """Problems of units: those with a line, and those that only name the unit.

    Args:
        output: What `systemd-analyze verify` said.
        sources: The definition's texts by path in the image; those of generated units are the Quadlets'.
        generated: The texts of generated units, by path.
    """
    by_name = {path.rpartition("/")[2]: source for path, source in sources.items()}
    for line in output.splitlines():
        if (found := _AT.match(line.strip())) and found["path"] in sources:
            if not _ADVICE.search(found["message"]):
                source, number = sources[found["path"]], int(found["line"])
                if found["path"] in generated:
                    number = _line_before(source, generated[found["path"]], number) or 0
                yield source.at(number or None, _plain(found["message"]))
        elif (found := _NOT_FOUND.match(line.strip())) and (about := by_name.get(found["unit"])):
            yield about.at(None, "systemd does not find the unit")
        elif (found := _ABOUT_UNIT.match(line.strip())) and (about := by_name.get(found["unit"])):
            yield from _about_unit(about, found["message"])


def about_quadlets(output: str, sources: Mapping[str, DefinitionText], *, failed: bool) -> Iterator[str]:
    """Problems of Quadlets, from what the generator's dry run said."""
    by_name = {path.rpartition("/")[2]: source for path, source in sources.items()}
    named = False
    for line in output.splitlines():
        found = _QUADLET.match(line.strip())
        source = by_name.get(found["name"].rpartition("/")[2]) if found else None
        if found and source:
            named = True
            key = _KEY.search(found["message"])
            number = source.line_of(key["key"], key["group"]) if key else None
            yield source.at(number, re.sub(rf" in {re.escape(source.path)}$", "", found["message"]))
    if failed and not named:
        yield f"Quadlets: {' '.join(output.split()) or 'the generator failed without a word'}"


def about_networks(output: str, sources: Mapping[str, DefinitionText]) -> Iterator[str]:
    """Problems of network files: those with a line, and those that only name the file."""
    for line in output.splitlines():
        if _AT.match(line.strip()):
            yield from located(line, sources)
        elif (found := _ABOUT_FILE.match(line.strip())) and (source := sources.get(found["path"])):
            message = f"{found['message']}{found['rest']}".strip(' :,"')
            # What is said of a whole file whose lines were read well enough.
            if re.search(r"ignoring|No valid|no Kind=|without", line):
                yield source.at(None, _plain(message))


def setting_lines(source: DefinitionText) -> Iterator[tuple[int, str | None, str]]:
    """Lines of a sysctl.d file: number, the setting's name (None when the line is none), and the line."""
    for number, line in enumerate(source.text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        name, equals, _ = stripped.partition("=")
        name = name.strip()
        excluded = not equals and name.startswith("-")
        right = re.fullmatch(r"-?[A-Za-z0-9_*]+([./][A-Za-z0-9_:*@-]+)+", name) and (equals or excluded)
        yield number, name.lstrip("-") if right else None, stripped


def split_generated(output: str) -> dict[str, str]:
    """The units that Quadlet's dry run printed, by name."""
    parts = re.split(r"^---(.+?)---$", output, flags=re.MULTILINE)
    return {name: text.removeprefix("\n") for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _about_unit(source: DefinitionText, message: str) -> Iterator[str]:
    if _ADVICE.search(message):
        return
    if command := _COMMAND.search(message):
        if not command["path"].startswith(_LATER):
            line = next((n for n, text in enumerate(source.text.splitlines(), 1) if command["path"] in text), None)
            yield source.at(line, f"the image has no program {command['path']}")
    elif lacks := _LACKS.search(message):
        line = next((n for n, text in enumerate(source.text.splitlines(), 1) if lacks["unit"] in text), None)
        yield source.at(line, f"it requires {lacks['unit']}, which the image does not have")
    elif re.search(r"Refusing|bad unit file|Invalid|Failed to parse|cannot|has no|must", message):
        yield source.at(None, _plain(message))


def _line_before(source: DefinitionText, generated: str, number: int) -> int | None:
    """The line of a Quadlet from which a line of the generated unit comes."""
    lines = generated.splitlines()
    return source.line_of(lines[number - 1].strip()) if 0 < number <= len(lines) else None


def _plain(message: str) -> str:
    return _TAIL.sub("", message.strip()).rstrip(".")
