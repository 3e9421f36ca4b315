"""Lists a package tree and what each of its files needs of others; a program that runs inside the tools tree.

There it is root of the build's user namespace, so it can read every file.  It reads one JSON document (`Order`) from
the named file and prints one (a list of rows, see `facts.py`).  It changes nothing.
It imports only the standard library and modules of ours that do the same: the tools tree has no others.

What is read, by kind of file:
    ELF                       libraries it is linked to, and those its notes say it loads
    scripts                   the interpreter of the first line
    units, D-Bus services     programs in their `Exec…=` lines; other units they ask for
    udev rules                programs in RUN, PROGRAM and IMPORT{program}
    /etc/pam.d, nsswitch.conf modules and services by name
    files looked at closely   commands of shell scripts, and paths written out in any file
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from imagebuild.elf import MAGIC, Elf, ElfError, read_elf
from imagebuild.steps.leave_out.patterns import covers, merged

PATH_FOLDERS = ("/usr/bin", "/usr/sbin")
_MODULES = "/usr/lib/modules/"
_FIRST_LINE_BYTES = 256
_MOST_TEXT_BYTES = 4 << 20
_MOST_CLOSE_BYTES = 256 << 20
_UNIT = re.compile(r"/(usr/lib|etc)/systemd/(system|user)/(.+/)?[^/]+\.[a-z]+")
_DBUS = re.compile(r"/usr/share/dbus-1/(system-)?services/[^/]+\.service")
_UDEV = re.compile(r"/(usr/lib|etc)/udev/rules\.d/[^/]+\.rules")
_PAM = re.compile(r"/(etc|usr/lib)/pam\.d/[^/]+")
_NSSWITCH = "/etc/nsswitch.conf"
_RUNS = re.compile(r"(?:RUN(?:\{program\})?|PROGRAM|IMPORT\{program\})\s*[+=:]*=\s*\"([^\"]+)\"")
_UNIT_KEYS = re.compile(
    r"(Wants|Requires|Requisite|BindsTo|Upholds|Also|OnFailure|OnSuccess|Unit|Service|Sockets|PropagatesStopTo)"
)
_SHELLS = frozenset({"sh", "bash", "dash", "ash"})
# Words before a command in a shell script; the command after `sudo -u x` is not found.
_BEFORE = frozenset(
    [
        "if",
        "then",
        "elif",
        "else",
        "while",
        "until",
        "do",
        "exec",
        "command",
        "time",
        "env",
        "xargs",
        "nohup",
        "nice",
        "eval",
        "type",
        "which",
        "builtin",
        "sudo",
    ]
)
_PIECES = re.compile(r"\$\(|[|&;(){}`!]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*")
_WRITTEN_PATH = re.compile(rb"/(?:usr|bin|sbin|lib|etc)[A-Za-z0-9_]*/[A-Za-z0-9_./+@-]+")


@dataclass(frozen=True)
class Order:
    """What to survey.

    Attributes:
        root: The package tree.
        patterns: The leave-out set; only names in it are reported as reached.
        closely: Paths of files in which paths and commands in the text count as well.
    """

    root: str
    patterns: tuple[str, ...]
    closely: tuple[str, ...]


def survey(order: Order) -> list[dict[str, Any]]:
    """Every name in the tree with what it needs, sorted by path."""
    rows = {row["path"]: row for row in _listing(Path(order.root))}
    in_set = covers(order.patterns)
    names = _Names(frozenset(path for path, row in rows.items() if row["kind"] != "d" and in_set(path)))
    closely = frozenset(order.closely)
    for path, row in rows.items():
        if row["kind"] == "f" and not path.startswith(_MODULES):
            with (Path(order.root) / path[1:]).open("rb") as stream:
                row.update(_needs(path, stream, names, closely=path in closely))
    return [rows[path] for path in sorted(rows)]


def interpreter(first_line: bytes) -> str:
    """The program that a script's first line names, as a path or (behind `env`) a name; empty for what is no script."""
    words = first_line[2:].decode(errors="replace").split() if first_line.startswith(b"#!") else []
    # `#!/usr/bin/env -S name` has an option first.
    named = [word for word in words[1:] if not word.startswith("-")]
    if words and PurePosixPath(words[0]).name == "env" and named:
        return named[0]
    return words[0] if words else ""


def commands(text: str) -> Iterator[str]:
    """The first words of the commands of a shell script, as far as its lines show them."""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for piece in _PIECES.split(line):
            words = piece.replace('"', " ").replace("'", " ").split()
            while words and (words[0] in _BEFORE or words[0].startswith("-") or _ASSIGNMENT.fullmatch(words[0])):
                words.pop(0)
            if words:
                yield words[0]


class _Names:
    """The names of the leave-out set, to find those that a text mentions."""

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths
        self._programs: dict[str, list[str]] = {}
        self._units: dict[str, list[str]] = {}
        for path in sorted(paths):
            folder, _, name = path.rpartition("/")
            if folder in PATH_FOLDERS:
                self._programs.setdefault(name, []).append(path)
            elif folder == "/usr/lib/systemd/system":
                self._units.setdefault(name, []).append(path)

    def programs(self, words: Iterable[str], *, folder: str = "") -> Iterator[str]:
        """The paths of programs that are given by path or by name, by name also in `folder`."""
        for word in words:
            if word.startswith("/"):
                yield from {merged(word)} & self._paths
            else:
                yield from self._programs.get(word, ())
                yield from {f"{folder}/{word}"} & self._paths

    def units(self, words: Iterable[str]) -> Iterator[str]:
        """The paths of units that are given by name, an instance's template among them."""
        for word in words:
            yield from self._units.get(word, ())
            yield from self._units.get(re.sub(r"@[^@]+(\.[a-z]+)$", r"@\1", word), ()) if "@" in word else ()


def _listing(root: Path) -> Iterator[dict[str, Any]]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in (*folders, *files):
            place = os.path.join(folder, name)  # noqa: PTH118 - some ten thousand of them
            status = os.lstat(place)
            path = place[len(str(root)) :]
            if os.path.islink(place):  # noqa: PTH114 - as above
                yield {"path": path, "kind": "l", "target": os.readlink(place)}  # noqa: PTH115 - as above
            elif name in folders:
                yield {"path": path, "kind": "d"}
            elif os.path.isfile(place):  # noqa: PTH113 - as above
                yield {"path": path, "kind": "f", "executable": bool(status.st_mode & 0o111)}
            else:
                raise SystemExit(f"the image holds {path}, which is neither file nor link nor folder")


def _needs(path: str, stream: BinaryIO, names: _Names, *, closely: bool) -> dict[str, Any]:
    first = stream.readline(_FIRST_LINE_BYTES)
    if first.startswith(MAGIC):
        found = _elf(stream)
        if closely:
            found["mentions"] = _written_paths(stream, names)
        return found
    runs_with = interpreter(first)
    found = {"interpreter": runs_with} if runs_with else {}
    stream.seek(0)
    found |= _by_place(path, stream, names)
    if closely:
        found["mentions"] = _written_paths(stream, names)
        if PurePosixPath(runs_with).name in _SHELLS:
            found["calls"] = list(names.programs(commands(_text(stream))))
    return found


def _elf(stream: BinaryIO) -> dict[str, Any]:
    try:
        elf = read_elf(stream) or Elf()
    except ElfError:
        # Not programs: such files are data of tests and of debuggers.
        return {}
    return {
        "needed": list(elf.needed),
        "dlopen": [{"names": list(each.sonames), "priority": each.priority} for each in elf.dlopen],
    }


def _by_place(path: str, stream: BinaryIO, names: _Names) -> dict[str, Any]:
    """The needs of a file whose kind follows from its path."""
    if _UNIT.fullmatch(path):
        lines = settings(_text(stream))
        runs = (word for key, value in lines if key.startswith("Exec") for word in started(value))
        asks = (word for key, value in lines if _UNIT_KEYS.fullmatch(key) for word in value.split())
        return {"runs": list(names.programs(runs)), "calls": list(names.units(asks))}
    if _DBUS.fullmatch(path):
        runs = (word for key, value in settings(_text(stream)) if key == "Exec" for word in started(value))
        return {"runs": list(names.programs(runs))}
    if _UDEV.fullmatch(path):
        words = (word for value in _RUNS.findall(_text(stream)) for word in started(value))
        return {"runs": list(names.programs(words, folder="/usr/lib/udev"))}
    if _PAM.fullmatch(path):
        rows = (line for line in _text(stream).splitlines() if not line.startswith("#"))
        return {"loads": re.findall(r"\bpam_\w+\.so\b", "\n".join(rows))}
    if path == _NSSWITCH:
        services = (line.partition(":")[2] for line in _text(stream).splitlines() if not line.startswith("#"))
        named = re.findall(r"\w+", re.sub(r"\[.*?\]", "", " ".join(services)))
        return {"loads": [f"libnss_{name}.so.2" for name in named]}
    return {}


def settings(text: str) -> list[tuple[str, str]]:
    """Keys and values of a unit file, lines that go on in the next one joined."""
    joined = text.replace("\\\n", " ")
    pairs = (line.partition("=") for line in joined.splitlines() if not line.startswith(("#", ";")))
    return [(key.strip(), value.strip()) for key, mark, value in pairs if mark]


def started(value: str) -> Iterator[str]:
    """The programs that a command line starts: its first word, and behind a shell's `-c` the commands of the script."""
    program, _, rest = value.lstrip("-@+:!|").partition(" ")
    yield program
    if PurePosixPath(program).name in _SHELLS:
        yield from commands(rest)


def _written_paths(stream: BinaryIO, names: _Names) -> list[str]:
    stream.seek(0)
    found = {match.decode() for match in _WRITTEN_PATH.findall(stream.read(_MOST_CLOSE_BYTES))}
    return sorted(set(names.programs(found)))


def _text(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read(_MOST_TEXT_BYTES).decode(errors="replace")


def _read_order(path: Path) -> Order:
    document: Mapping[str, Any] = json.loads(path.read_text())
    return Order(document["root"], tuple(document["patterns"]), tuple(document["closely"]))


def main() -> None:
    """Survey what the request in the file named on the command line says; the rows go to stdout."""
    json.dump(survey(_read_order(Path(sys.argv[1]))), sys.stdout)


if __name__ == "__main__":
    main()
