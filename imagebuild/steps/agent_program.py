"""The on-host agent as a self-contained program: its own interpreter, the needed part of the library, its packages.

The image has no Python.  `/usr/lib/twinhull/` is assembled from Debian 13's interpreter, standard library and
cryptography (as the tools tree holds them), the locked wheels, and our own packages; `/usr/bin/updater` starts it.

Rules: the same inputs give the same bytes (sorted, fixed times, no path of the build host inside); byte code is made
in advance and never checked against sources, because its whole file system is verified.  Sources are kept for our own
packages only: tracebacks then show our lines, and name file and line of everything else.
Not here: the agent's units and settings, which belong to the image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bedrock import strict
from bedrock.errors import ProcessError
from bedrock.partial import new_folder
from bedrock.persist import write_atomic
from imagebuild.elf import ElfError, read_elf
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.inputs.wheels import INTERPRETER, LOCK, agent_wheels, unpack
from imagebuild.steps import freeze

HOME = "usr/lib/twinhull"
ENTRY = "updater.agent.cli"
# What each program of the agent imports first; the second is its network side, which systemd starts.
LAUNCHERS = {"usr/bin/updater": ENTRY, f"{HOME}/bin/transfer": "updater.transfer.worker"}
# The packages that the payload needs in the image; `build_payload` checks that it needs no others.
PAYLOAD_PACKAGES: tuple[str, ...] = ("libc6", "libexpat1", "libffi8", "libgcc-s1", "libssl3t64", "zlib1g")
# From Debian, not from wheels: linked to the image's OpenSSL, which Debian maintains; the wheel brings its own.
BORROWED = ("cryptography", "_cffi_backend")
PACKAGES_FOLDER = "usr/lib/python3/dist-packages"

_FORMAT = 2
_STDLIB = "usr/lib/python3.13"
_TIMEOUT_S = 300
_LAUNCHER_TEXT = """\
#!/{home}/bin/python3 -IS
import os
import sys

# The image has no OpenSSL legacy module, and cryptography treats that as an error unless this is set.
os.environ["CRYPTOGRAPHY_OPENSSL_NO_LEGACY"] = "1"
# zoneinfo would look for its folders in sysconfig's data, which are not here; only /etc/localtime is read.
os.environ["PYTHONTZPATH"] = ""
sys.dont_write_bytecode = True
sys.path.append("/{home}/app")

from {entry} import main

sys.exit(main())
"""
# Where the program starts, and what is imported by name at run time, where no syntax tree shows it.
_ROOTS = (
    *LAUNCHERS.values(),
    *("_cffi_backend", "cryptography.exceptions", "cryptography.utils"),
    *(f"cryptography.hazmat.primitives.asymmetric.{name}" for name in ("ec", "ed25519", "padding", "rsa", "utils")),
    *(f"cryptography.hazmat.primitives.{name}" for name in ("hashes", "serialization.ssh")),
    *(f"encodings.{name}" for name in ("aliases", "ascii", "charmap", "cp437", "idna", "iso8859_1", "latin_1")),
    *(f"encodings.{name}" for name in ("punycode", "raw_unicode_escape", "unicode_escape")),
    *(f"encodings.{name}" for name in ("utf_16", "utf_16_be", "utf_16_le", "utf_8", "utf_8_sig")),
    *("_strptime", "datetime", "encodings", "ipaddress", "os", "warnings", "traceback", "linecache", "tokenize"),
    *("signal", "zoneinfo"),
)
# Modules that import statements name but the agent never reaches.  Short on purpose: each line is a promise.
_DROP = (
    *("_aix_support", "_ios_support", "_osx_support", "nturl2path"),  # other operating systems
    *("_pydatetime", "_pydecimal"),  # twins of extension modules that are there
    *("bz2", "lzma", "_uuid"),  # each brings a shared library, and its importers work without
    "doctest",  # self-tests at the end of library modules, and with it unittest, pdb and asyncio
    "ftplib",  # urllib.request's ftp:
    "multiprocessing",  # process pools of concurrent.futures
    "statistics",  # the self-test of random, and with it fractions and decimal
    "webbrowser",  # click.launch
)
_UNWANTED_FILES = re.compile(
    r"""
    [^/]+\.(dist-info|data)/            # no metadata is read at run time
    | .*\.(pyi|pxd|h|c|typed|txt|md)$
    | .*/(tests?|test_data)/
    | yaml/_yaml\. | _yaml/             # the strict reader builds on the loader written in Python
    | zstandard/(_cffi\.|backend_cffi)  # the second of two equal backends
    | urllib3/contrib/(emscripten|pyopenssl|socks)
    | click/(testing|_winconsole)
    | tuf/repository/
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Payload:
    """The finished program: its files (relative to the image's root), their size, the libraries they load."""

    files: tuple[str, ...]
    size_bytes: int
    needed_libraries: tuple[str, ...]


@dataclass(frozen=True)
class PayloadInputs:
    """Everything that decides the payload's bytes, except the lock and this module."""

    tools: ToolsTree
    source_root: Path
    sources: tuple[Path, ...]
    epoch: int


def build_payload(
    *, destination: Path, tools_root: Path, cache: Path, source_root: Path, source_date_epoch: int
) -> Payload:
    """Write the agent's program into the tree at `destination` (which stands for `/`), reusing an equal earlier one.

    Args:
        destination: The tree to fill; `usr/lib/twinhull` and `usr/bin/updater` are written.
        tools_root: A tools tree: Debian 13 with Python 3.13 and binutils.
        cache: Folder for wheels and finished payloads.
        source_root: The folder that holds our own packages (`bedrock`, `partitions`, `updater`).
        source_date_epoch: Every file's time.

    Raises:
        BuildError: A package could not be fetched, a module cannot be compiled, or the program would need a library
            that `PAYLOAD_PACKAGES` does not bring.
    """
    tools = ToolsTree(tools_root)
    inputs = PayloadInputs(tools, source_root, agent_sources(source_root), source_date_epoch)
    kept = cache / "payload" / fingerprint(inputs)
    if not kept.is_dir():
        with new_folder(kept) as partial:
            _assemble(partial, inputs, cache)
    shutil.copytree(kept / "tree", destination, dirs_exist_ok=True)
    return strict.read_json(Payload, (kept / "payload.json").read_bytes(), source=str(kept / "payload.json"))


def agent_sources(source_root: Path) -> tuple[Path, ...]:
    """Our own modules that the agent can reach, relative to `source_root`, without server and repository code.

    Raises:
        BuildError: The agent's entry point is not there.
    """
    entries = tuple(LAUNCHERS.values())
    found = freeze.closure(entries, (source_root,), ())
    if missing := [entry for entry in entries if entry not in found]:
        raise BuildError(f"{source_root} holds no {', '.join(missing)}, which the image's updater starts")
    return tuple(sorted(path.relative_to(source_root) for path in found.values()))


def is_dead_weight(name: str) -> bool:
    """Whether a wheel's member is useless on a host: metadata, tests, types, second back ends."""
    return _UNWANTED_FILES.match(name) is not None


def needed_libraries(files: Iterable[Path]) -> frozenset[str]:
    """The shared libraries that programs and extension modules name in their dynamic section.

    Raises:
        BuildError: A file is not ELF, or is damaged.
    """
    names: set[str] = set()
    for path in files:
        try:
            with path.open("rb") as stream:
                elf = read_elf(stream)
        except ElfError as error:
            raise BuildError(f"{path} of the agent is damaged: {error}") from error
        if elf is None:
            raise BuildError(f"{path} of the agent is not a program or library")
        names.update(elf.needed)
    return frozenset(names)


def libraries_of(packages: Iterable[str], tools_root: Path) -> frozenset[str]:
    """The shared libraries that Debian packages bring, by the tools tree's own package lists."""
    names: set[str] = set()
    for package in packages:
        for listing in (tools_root / "var/lib/dpkg/info").glob(f"{package}*.list"):
            if listing.name.removesuffix(".list").partition(":")[0] == package:
                names |= {line.rpartition("/")[2] for line in listing.read_text().splitlines() if ".so" in line}
    return frozenset(names)


def _assemble(folder: Path, inputs: PayloadInputs, cache: Path) -> None:
    home = folder / "tree" / HOME
    app, library, code = folder / "app", home / "lib/python3.13", home / "app"
    for made in (app, library / "lib-dynload", code, home / "bin", folder / "tree/usr/bin"):
        made.mkdir(parents=True, exist_ok=True)
    interpreter = home / "bin/python3"
    shutil.copyfile(inputs.tools.root / INTERPRETER, interpreter)
    for wheel in agent_wheels(inputs.tools, cache):
        unpack(wheel, app, wanted=lambda name: not is_dead_weight(name))
    _borrow(inputs.tools.root / PACKAGES_FOLDER, app)
    for source in inputs.sources:
        (app / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(inputs.source_root / source, app / source)
    _freeze(inputs.tools, app, library, code, own=sorted({source.parts[0] for source in inputs.sources}))
    shutil.rmtree(app)
    for launcher, entry in LAUNCHERS.items():
        (folder / "tree" / launcher).write_text(_LAUNCHER_TEXT.format(home=HOME, entry=entry))
    modules = sorted(home.rglob("*.so"))
    _strip(inputs.tools, modules)
    needed = needed_libraries([interpreter, *modules])
    _require_known(needed, inputs.tools.root)
    payload = _settle(folder / "tree", needed, inputs.epoch)
    write_atomic(folder / "payload.json", strict.dump_json(payload))


def _borrow(packages: Path, app: Path) -> None:
    """Copy Debian's build of the modules in `BORROWED`, without the byte code its package made."""
    left_out = shutil.ignore_patterns("__pycache__", "*.pyi", "py.typed")
    for name in BORROWED:
        found = sorted(path for path in packages.glob(f"{name}*") if path.name.partition(".")[0] == name)
        if not found:
            raise BuildError(f"{packages} holds no {name}, which the agent needs")
        for path in found:
            if path.is_dir():
                shutil.copytree(path, app / path.name, ignore=left_out)
            else:
                shutil.copyfile(path, app / path.name)


def _freeze(tools: ToolsTree, app: Path, library: Path, code: Path, *, own: list[str]) -> None:
    request = freeze.FreezeRequest(
        app=str(app),
        stdlib=f"/{_STDLIB}",
        library=str(library),
        code=str(code),
        shown_library=f"/{HOME}/lib/python3.13",
        shown_code=f"/{HOME}/app",
        roots=_ROOTS,
        drop=_DROP,
        with_source=tuple(own),
    )
    script = Path(freeze.__file__)
    asked = app.parent / "request.json"
    asked.write_text(json.dumps(asdict(request)))
    access = Access(read=(script, app, asked), write=(library, code))
    try:
        tools.run(["python3.13", "-IS", script, asked], access, timeout_s=_TIMEOUT_S)
    except ProcessError as error:
        raise BuildError(f"the agent could not be byte-compiled\n{error}") from error
    asked.unlink()


def _strip(tools: ToolsTree, files: list[Path]) -> None:
    """Strip wheels' extension modules: debugging symbols are most of their size, and the loader does not read them."""
    tools.run(
        ["strip", "--strip-unneeded", "--preserve-dates", *files],
        Access(write=tuple({path.parent for path in files})),
        timeout_s=_TIMEOUT_S,
    )


def _settle(tree: Path, needed: frozenset[str], epoch: int) -> Payload:
    """Give every file its mode and its time, and count them."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    programs = {*(tree / launcher for launcher in LAUNCHERS), tree / HOME / "bin/python3"}
    for path in files:
        path.chmod(0o755 if path in programs else 0o644)
    folders = sorted((path for path in tree.rglob("*") if path.is_dir()), reverse=True)
    for path in folders:
        path.chmod(0o755)
    for path in (*files, *folders):
        os.utime(path, (epoch, epoch))
    return Payload(
        files=tuple(path.relative_to(tree).as_posix() for path in files),
        size_bytes=sum(path.stat().st_size for path in files),
        needed_libraries=tuple(sorted(needed)),
    )


def _require_known(needed: frozenset[str], tools_root: Path) -> None:
    unknown = needed - libraries_of(PAYLOAD_PACKAGES, tools_root)
    if unknown:
        raise BuildError(f"no package of the agent's list brings {', '.join(sorted(unknown))}").with_hint(
            "drop the module that needs it, or add its package to PAYLOAD_PACKAGES"
        )


def fingerprint(inputs: PayloadInputs) -> str:
    """The hash of everything that decides the payload's bytes."""
    digest = hashlib.sha256(f"{_FORMAT} {inputs.epoch}\0".encode())
    named = {str(source): inputs.source_root / source for source in inputs.sources}
    named |= {f"builder/{path.name}": path for path in (Path(__file__), Path(freeze.__file__), LOCK)}
    named |= {f"debian/{path}": inputs.tools.root / path for path in (INTERPRETER, "var/lib/dpkg/status")}
    for name, path in sorted(named.items()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
