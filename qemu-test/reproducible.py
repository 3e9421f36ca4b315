"""Ten builds of one lock, in circumstances that differ as much as those of two strangers; `make reproducible` runs it.

They differ in folder and file system (a disk, a RAM disk: another order of directories), the tools' clock, umask,
locale and time zone, processors, user, caches (three from scratch with empty ones, tools tree included) and network
(two in a namespace without an interface, from a bundle).  Every file that is not a log must have the same bytes.
"""

from __future__ import annotations

import argparse
import enum
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from figures import MachineFacts, facts, say, write_document
from one_build import USER, BuildRequest
from workbench import DEFINITION, OUT, SOURCE, make_workbench

from bedrock import process, strict
from bedrock.persist import write_atomic
from bedrock.process import Argument
from bedrock.progress import Silent
from imagebuild.definition.image import LOCK_FILE
from imagebuild.inputs.bundle import write_bundle
from imagebuild.inputs.lockfile import write_lock
from imagebuild.inputs.supply import load_lock, make_lock
from imagebuild.inputs.tools import ToolsTree, cache_folder
from imagebuild.reproduction.differences import where
from imagebuild.steps.scratch import remove_tree
from updater.documents.signatures import SIGNATURES_FILE, UKI, parse_signatures

DOCUMENT = SOURCE / "out" / "reproducible.json"
FOLDER = SOURCE / "out" / "reproducible"
# A RAM disk: its directories have another order than a disk's.
RAM = Path("/dev/shm")  # noqa: S108 - a folder of our own is made below it
_BUILD_TIMEOUT_S = 3000
# Logs, times and paths: what describes one run, and is published nowhere.
_OF_ONE_RUN = ("build.log", "summary.json", "config/tree/mkosi.conf")
_PLAIN = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
_FOREIGN = {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"}


class Cache(enum.Enum):
    """What a build finds in its cache: nothing, tools and packages but nothing made from them, or all of it."""

    EMPTY = "empty"
    DOWNLOADS = "downloads"
    WARM = "warm"


class Place(enum.Enum):
    """Where a build works."""

    DISK = "disk"
    RAM = "RAM disk"


@dataclass(frozen=True)
class Variant:
    """The circumstances of one build; `rest` is what else the request says."""

    name: str
    cache: Cache
    place: Place
    environment: Mapping[str, str]
    rest: Mapping[str, Any]

    def values(self) -> dict[str, Any]:
        """For the document."""
        return {
            "cache": self.cache.value,
            "place": self.place.value,
            "environment": dict(self.environment),
            **self.rest,
        }


@dataclass(frozen=True)
class Made:
    """A finished build: its SHA-256 by file, the unsigned UKI among them."""

    variant: Variant
    out: Path
    seconds: float
    hashes: dict[str, str]


@dataclass(frozen=True)
class Inputs:
    """What all builds are made from."""

    definition: Path
    keys: Path
    root_of_trust: Path
    bundle: Path


VARIANTS = (
    Variant("scratch", Cache.EMPTY, Place.DISK, _PLAIN, {}),
    Variant("scratch, other user", Cache.EMPTY, Place.RAM, _FOREIGN, {"user": True, "umask": "077", "clock": "+400d"}),
    Variant("scratch, no network", Cache.EMPTY, Place.RAM, _PLAIN, {"alone": True, "cpus": 1, "umask": "027"}),
    Variant("cold, late", Cache.DOWNLOADS, Place.DISK, _FOREIGN, {"clock": "+400d", "umask": "077"}),
    Variant("cold, one processor", Cache.DOWNLOADS, Place.RAM, _PLAIN, {"cpus": 1}),
    Variant("warm", Cache.WARM, Place.DISK, _PLAIN, {}),
    Variant("warm, closed umask", Cache.WARM, Place.RAM, _FOREIGN, {"umask": "077"}),
    Variant("warm, late", Cache.WARM, Place.DISK, _PLAIN, {"clock": "+1200d"}),
    Variant("warm, one processor", Cache.WARM, Place.RAM, _FOREIGN, {"cpus": 1, "clock": "+400d"}),
    Variant("warm, no network", Cache.WARM, Place.DISK, _FOREIGN, {"alone": True, "umask": "027"}),
)


def prepare(folder: Path, tools_cache: Path) -> Inputs:
    """Lock the reference image with two files of mkosi's next to it, and pack a bundle (writes below `folder`)."""
    if folder.exists():
        remove_tree(folder)
    definition = folder / "definition"
    shutil.copytree(DEFINITION, definition)
    with_mkosi_extra(definition)
    return pack(definition, folder / "bundle", tools_cache)


def with_mkosi_extra(definition: Path) -> None:
    """Write two files of mkosi's into a definition: one whose mode depends on a umask, and a program."""
    extra = definition / "mkosi.extra/usr/share/reproducible"
    extra.mkdir(parents=True)
    (extra / "text").write_text("a file whose mode depends on a umask\n")
    (extra / "tool").write_text("#!/bin/sh\n")
    (extra / "tool").chmod(0o755)


def pack(definition: Path, bundle: Path, tools_cache: Path) -> Inputs:
    """Lock a definition and pack everything it is built from (writes the lock, the bundle, and below the cache)."""
    bench = make_workbench()
    lock = make_lock(definition, mirrors=bench.mirrors, cache=tools_cache, progress=Silent())
    write_atomic(definition / LOCK_FILE, write_lock(lock))
    write_bundle(definition, lock, bundle, mirrors=bench.mirrors, cache=tools_cache, progress=Silent())
    return Inputs(definition, bench.keyring.folder, OUT / "trust/repo/metadata/1.root.json", bundle)


def run(variant: Variant, inputs: Inputs, *, place: Path, cache: Path) -> Made:
    """Build in the new folder `place`, with a checkout of the definition of its own.

    Raises:
        ProcessError: The build failed.
    """
    umask = os.umask(int(variant.rest.get("umask", "022"), 8))
    try:
        place.mkdir(parents=True)
        definition, keys = place / "checkout", place / "keys"
        _check_out(inputs.definition, definition)
        shutil.copytree(inputs.keys, keys)
        shutil.copyfile(inputs.root_of_trust, place / "root.json")
    finally:
        os.umask(umask)
    request = BuildRequest(
        place=str(place),
        definition=str(definition),
        keys=str(keys),
        root_of_trust=str(place / "root.json"),
        out=str(place / "build"),
        cache=str(cache),
        bundle=str(inputs.bundle) if variant.rest.keys() & {"alone", "user"} else None,
    )
    request = replace(request, **variant.rest)
    (place / "request.json").write_bytes(strict.dump_json(request))
    if request.user:
        _give_away(place, cache)
    began = time.monotonic()
    program = SOURCE / "qemu-test/one_build.py"
    words: list[Argument] = [*_namespaces(request), sys.executable, program, place / "request.json"]
    environment = {"PYTHONPATH": str(SOURCE), **variant.environment}
    process.run(words, timeout_s=_BUILD_TIMEOUT_S, env=environment, log=place / "log")
    return Made(variant, place / "build", round(time.monotonic() - began, 1), hashes_of(place / "build"))


def hashes_of(build: Path) -> dict[str, str]:
    """SHA-256 of every file of a build that is not of one run only, and of the unsigned UKI."""
    names = sorted(path.relative_to(build).as_posix() for path in build.rglob("*") if path.is_file())
    found = {name: sha256_of(build / name) for name in names if name not in _OF_ONE_RUN}
    signatures = parse_signatures((build / SIGNATURES_FILE).read_bytes(), source=SIGNATURES_FILE)
    return {**found, "uki.unsigned.efi": signatures.files[UKI].unsigned_sha256}


def differing(first: Made, other: Made) -> tuple[str, ...]:
    """The files that two builds have with other bytes, or only one of them has."""
    names = first.hashes.keys() | other.hashes.keys()
    return tuple(sorted(name for name in names if first.hashes.get(name) != other.hashes.get(name)))


def explained(first: Made, other: Made, tools: ToolsTree) -> dict[str, tuple[str, ...]]:
    """Where two builds differ, by file."""
    found = {}
    for name in differing(first, other):
        pair = first.out / name, other.out / name
        found[name] = where(*pair, tools=tools) if all(path.is_file() for path in pair) else ("not in both",)
    return found


@contextmanager
def ram_folder() -> Iterator[Path]:
    """A folder on the RAM disk that others may enter, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="twinhull-reproducible-", dir=RAM))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        remove_tree(folder)


def measure(variants: Sequence[Variant]) -> dict[str, Any]:
    """Build all of them, one after the other; the document."""
    machine = facts()
    inputs = prepare(FOLDER, cache_folder())
    made: list[Made] = []
    differences: dict[str, Any] = {}
    tools = make_workbench().tools
    with ram_folder() as ram:
        for number, variant in enumerate(variants):
            place = (ram if variant.place is Place.RAM else FOLDER / "places") / f"{number}"
            cache = _cache(variant, FOLDER / "cache", place / "cache")
            made.append(run(variant, inputs, place=place, cache=cache))
            found = explained(made[0], made[-1], tools)
            if found:
                differences[variant.name] = found
            told = f"DIFFERS: {', '.join(found)}" if found else "the same bytes"
            say(f"{number + 1:2}. {variant.name}: {made[-1].seconds:.0f} s, {told}", to=sys.stderr)
            if number:
                remove_tree(place)
    return _document(machine, inputs, made, differences)


def _document(
    machine: MachineFacts, inputs: Inputs, made: Sequence[Made], differences: dict[str, Any]
) -> dict[str, Any]:
    return {
        "facts": asdict(machine),
        "identical": not differences,
        "lock_sha256": sha256_of(inputs.definition / LOCK_FILE),
        "packages": len(load_lock(inputs.definition).packages),
        "hashes": made[0].hashes,
        "differences": differences,
        "builds": [
            {
                "name": each.variant.name,
                **each.variant.values(),
                "seconds": each.seconds,
                "same": not differing(made[0], each),
            }
            for each in made
        ],
    }


def _cache(variant: Variant, shared: Path, own: Path) -> Path:
    """The cache a build finds (writes to the disk); the first from scratch fills the one that later ones share."""
    if variant.cache is Cache.EMPTY:
        return own if shared.exists() else shared
    if variant.cache is Cache.DOWNLOADS:
        for made in ("trees", "initrd", "payload", "archives"):
            if (shared / made).exists():
                remove_tree(shared / made)
    return shared


def _check_out(source: Path, target: Path) -> None:
    """Copy a definition as git would under this umask: of a mode only whether it is executable."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            if path.stat().st_mode & 0o100:
                copy.chmod(copy.stat().st_mode | (copy.stat().st_mode & 0o444) >> 2)


def _give_away(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)


def _namespaces(request: BuildRequest) -> list[str]:
    flags = [*(["--net"] if request.alone else []), *(["--mount", "--propagation=private"] if request.user else [])]
    return ["unshare", *flags, "--"] if flags else []


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(words: Sequence[str]) -> int:
    """Build, compare, and write `out/reproducible.json`; 1 when something differs."""
    parser = argparse.ArgumentParser(prog="reproducible.py", description="Ten builds of one lock, compared.")
    parser.add_argument("--json", action="store_true", help="print the JSON document")
    parser.add_argument(
        "--only", metavar="WORD", default="", help="of the builds after the first, those with this word"
    )
    arguments = parser.parse_args(words)
    if os.geteuid() != 0:
        parser.error("must be run as root: one of the builds is another user's")
    variants = [VARIANTS[0], *(each for each in VARIANTS[1:] if arguments.only in each.name)]
    document = measure(variants)
    text = write_document(DOCUMENT, document)
    verdict = "identical" if document["identical"] else "DIFFERENT"
    say(text.rstrip() if arguments.json else f"{len(variants)} builds: {verdict}; {DOCUMENT}", to=sys.stdout)
    return 0 if document["identical"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
