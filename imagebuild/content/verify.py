"""A definition's own files, checked by the programs that will read them on a host.

Each program runs as on a host of the image: with its libraries, users and units, and without a network.  So a key that
only a later systemd knows is accepted in an image that has it.  The tools tree provides programs the image lacks.
"""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuild.content.messages import (
    about_networks,
    about_quadlets,
    about_units,
    located,
    setting_lines,
    split_generated,
)
from imagebuild.content.sources import DefinitionText
from imagebuild.content.tree import EditableTree

_UNITS = re.compile(
    r"/(usr/lib|etc)/systemd/system/(?P<unit>[^/]+\.(service|socket|timer|path|target|mount|automount|swap|slice))(\.d/[^/]+\.conf)?"
)
_QUADLETS = re.compile(r"/(usr/share|etc)/containers/systemd/[^/]+\.(container|volume|network|pod|kube|image|build)")
_NETWORKS = re.compile(r"/(usr/lib|etc)/systemd/network/.+\.(network|netdev|conf)")
_LINKS = re.compile(r"/(usr/lib|etc)/systemd/network/.+\.link")
_TMPFILES = re.compile(r"/(usr/lib|etc)/tmpfiles\.d/[^/]+\.conf")
_SYSUSERS = re.compile(r"/(usr/lib|etc)/sysusers\.d/[^/]+\.conf")
_SYSCTL = re.compile(r"/(usr/lib|etc)/sysctl\.d/[^/]+\.conf|/etc/sysctl\.conf")
_RULES = re.compile(r"/(usr/lib|etc)/udev/rules\.d/[^/]+\.rules")
_NFT_MAIN = "/etc/nftables.conf"
_NFT = re.compile(r"/etc/nftables\.conf|.*\.nft")
_INCLUDE = re.compile(r'^\s*include\s+"([^"]+)"', re.MULTILINE)
_NO_NFTABLES = re.compile(r"cache initialization failed|Unable to initialize Netlink|Protocol not supported")
_NO_PODMAN = "the image has no podman to run it: see containers.engine in image.yaml, or write a unit of systemd"
QUADLET = "/usr/libexec/podman/quadlet"
# Not the generators' own folder, which systemd-analyze leaves aside when it runs none.
_GENERATED = "/run/systemd/system"
# networkd reads its files when it starts and has nothing to do then.
_NETWORKD_S = 3


@dataclass(frozen=True)
class TextFindings:
    """The findings: problems, each with its place, files that could not be checked here, and the units of Quadlets."""

    problems: tuple[str, ...]
    unchecked: tuple[str, ...] = ()
    generated: frozenset[str] = frozenset()


def verify(tree: EditableTree, sources: Iterable[DefinitionText]) -> TextFindings:
    """Let the image's own programs read the definition's files."""
    found = {source.path: source for source in sources}
    quadlets = _matching(found, _QUADLETS)
    problems: list[str] = []
    unchecked: list[str] = []
    generated: dict[str, str] = {}
    if quadlets:
        if not (tree.root / QUADLET.lstrip("/")).exists():
            problems += [source.at(None, _NO_PODMAN) for source in quadlets.values()]
        else:
            generated = _check_quadlets(tree, quadlets, problems)
    problems += _check_units(tree, found, quadlets, generated)
    problems += _check_each(
        tree, _matching(found, _TMPFILES), "/usr/bin/systemd-tmpfiles", "--dry-run", "--create", "--boot"
    )
    problems += _check_each(tree, _matching(found, _SYSUSERS), "/usr/bin/systemd-sysusers", "--dry-run")
    problems += _check_each(tree, _matching(found, _RULES), "/usr/bin/udevadm", "verify", "--resolve-names=never")
    problems += _check_networks(tree, found)
    for source in _matching(found, _SYSCTL).values():
        problems += [
            source.at(number, f"{line!r} is not a line such as net.ipv4.ip_forward = 1")
            for number, name, line in setting_lines(source)
            if name is None
        ]
    _check_nftables(tree, _matching(found, _NFT), problems, unchecked)
    units = frozenset(path.rpartition("/")[2] for path in generated)
    return TextFindings(tuple(dict.fromkeys(problems)), tuple(unchecked), units)


def settings_of(sources: Iterable[DefinitionText]) -> dict[str, list[tuple[DefinitionText, int]]]:
    """The kernel settings that a definition's sysctl.d files name, and where."""
    found: dict[str, list[tuple[DefinitionText, int]]] = {}
    for source in sources:
        if _SYSCTL.fullmatch(source.path):
            for number, name, _ in setting_lines(source):
                if name is not None:
                    found.setdefault(name, []).append((source, number))
    return found


def _matching(sources: Mapping[str, DefinitionText], pattern: re.Pattern[str]) -> dict[str, DefinitionText]:
    return {path: source for path, source in sources.items() if pattern.fullmatch(path)}


def _check_quadlets(tree: EditableTree, quadlets: Mapping[str, DefinitionText], problems: list[str]) -> dict[str, str]:
    """The units that the generator makes of the Quadlets, by the path they have on a host."""
    done = tree.run([QUADLET, "-dryrun"], shows={})
    problems += about_quadlets(done.stderr, quadlets, failed=done.returncode != 0)
    return {f"{_GENERATED}/{name}": text for name, text in split_generated(done.stdout).items()}


def _check_units(
    tree: EditableTree,
    sources: Mapping[str, DefinitionText],
    quadlets: Mapping[str, DefinitionText],
    generated: Mapping[str, str],
) -> Iterator[str]:
    units = _matching(sources, _UNITS)
    origins = {path: source for path, text in generated.items() if (source := _quadlet_of(text, quadlets))}
    names = [match["unit"] for path in units if (match := _UNITS.fullmatch(path))]
    names += [path.rpartition("/")[2] for path in origins]
    if not names:
        return
    with tempfile.TemporaryDirectory(dir=tree.scratch) as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        for path, text in generated.items():
            (folder / path.rpartition("/")[2]).write_text(text)
        # An instance stands for a template, which cannot be looked at by itself.
        wanted = sorted({name.replace("@.", "@instance.") for name in names})
        words = ["/usr/bin/systemd-analyze", "verify", "--man=no", "--generators=no", "--recursive-errors=one", *wanted]
        done = tree.run(words, shows={_GENERATED: folder})
    named = {path.replace("@.", "@instance."): source for path, source in {**units, **origins}.items()}
    yield from about_units(done.stderr, {**named, **units, **origins}, generated)


def _quadlet_of(text: str, quadlets: Mapping[str, DefinitionText]) -> DefinitionText | None:
    path = next((line.removeprefix("SourcePath=") for line in text.splitlines() if line.startswith("SourcePath=")), "")
    return quadlets.get(path)


def _check_each(tree: EditableTree, sources: Mapping[str, DefinitionText], *words: str) -> Iterator[str]:
    """Files that a program takes by name."""
    if sources:
        done = tree.run([*words, *sources], shows={})
        yield from located(f"{done.stdout}\n{done.stderr}", sources)


def _check_networks(tree: EditableTree, sources: Mapping[str, DefinitionText]) -> Iterator[str]:
    if networks := _matching(sources, _NETWORKS):
        words = ["/usr/bin/timeout", "-s", "TERM", str(_NETWORKD_S), "/usr/lib/systemd/systemd-networkd"]
        yield from about_networks(tree.run(words, shows={}).stderr, networks)
    if links := _matching(sources, _LINKS):
        words = ["/usr/bin/udevadm", "test-builtin", "net_setup_link", "/sys/class/net/lo"]
        yield from about_networks(tree.run(words, shows={}).stderr, links)


def _check_nftables(
    tree: EditableTree, rules: Mapping[str, DefinitionText], problems: list[str], unchecked: list[str]
) -> None:
    """The ruleset that nftables.service loads, with what it includes, and each file that it does not include."""
    if not rules:
        return
    main = tree.read(_NFT_MAIN).texts.get(_NFT_MAIN)
    included = _INCLUDE.findall(main) if main else []
    alone = [
        path
        for path in rules
        if path != _NFT_MAIN and not any(fnmatch.fnmatchcase(path, pattern) for pattern in included)
    ]
    for path in (*([_NFT_MAIN] if main is not None else []), *alone):
        done = tree.run(["/usr/sbin/nft", "--check", "--file", path], shows={})
        if _NO_NFTABLES.search(done.stderr):
            unchecked.append(f"{path}: the kernel of this build host has no nf_tables to check it with")
            continue
        found = list(located(done.stderr, rules))
        problems += found
        if done.returncode != 0 and not found:
            problems.append(f"{rules[path].where if path in rules else path}: {' '.join(done.stderr.split())}")
