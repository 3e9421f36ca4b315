"""The tools tree: one Debian 13 root folder that holds every program that touches an image.

It is made once by mmdebstrap and cached under the hash of its inputs, so that two hosts build with the same tools.
Programs inside run through mkosi's own sandbox (a file of the tree), which works with and without root; each call names
the parts of the host that the program may read and write.
Not here: which programs are run with which arguments.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bedrock import process
from bedrock.digest import bytes_sha256
from bedrock.errors import ProcessError
from bedrock.locks import only_one
from bedrock.persist import write_atomic
from bedrock.process import DEVNULL, STDOUT, Argument, Finished, Running
from bedrock.progress import Progress, Silent
from imagebuild.errors import ToolsError
from imagebuild.inputs.build_host import require_build_host, root_of_its_own
from imagebuild.inputs.mirror import Mirrors

RELEASE = "trixie"
PACKAGES = (
    "binutils",
    "busybox-static",
    "ca-certificates",
    "cpio",
    "cryptsetup-bin",
    "debian-archive-keyring",
    "docker-registry",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "faketime",
    "fdisk",
    "gdisk",
    "kmod",
    "locales",
    "mkosi",
    "mtools",
    "nftables",
    "openssl",
    "ovmf",
    "python3-cryptography",
    "python3-pefile",
    "python3-virt-firmware",
    "qemu-system-x86",
    "qemu-utils",
    "sbsigntool",
    "skopeo",
    "swtpm",
    "swtpm-tools",
    "systemd-boot-efi",
    "systemd-container",
    "systemd-repart",
    "systemd-ukify",
    "uidmap",
    "util-linux-extra",
    "xz-utils",
    "zstd",
)
_MMDEBSTRAP_OPTIONS = (
    "--variant=apt",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
_FORMAT = 1
_LINKS = (("usr/bin", "/bin"), ("usr/sbin", "/sbin"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64"))
_BUILD_TIMEOUT_S = 1800
# Where this tree's program is mounted for a system that lacks it.
_LENT = "/lent"
_MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")


Run = Callable[..., Finished]


def cache_folder() -> Path:
    """The folder for everything that can be recreated: `$XDG_CACHE_HOME/twinhull`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "twinhull"


@dataclass(frozen=True)
class Access:
    """What a program in the tools tree may see of the host, besides the tree itself (same paths inside)."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    network: bool = False


@dataclass(frozen=True)
class ToolsTree:
    """A finished tools tree."""

    root: Path

    @property
    def identity(self) -> str:
        """The hash of the inputs this tree was made from."""
        return self.root.name

    def command(
        self, argv: Sequence[Argument], access: Access = Access(), *, cwd: Path | None = None, bound: bool = False
    ) -> list[str]:
        """The argument list that runs `argv` inside the tree; `bound`: whatever it starts dies with it."""
        sandbox = self.root / "usr/lib/python3/dist-packages/mkosi/sandbox.py"
        words = [*_namespaces(bound=bound), sys.executable, "-SI", str(sandbox)]
        words += ["--ro-bind", str(self.root / "usr"), "/usr"]
        for target, link in _LINKS:
            words += ["--symlink", target, link]
        words += ["--bind", str(self.root / "etc"), "/etc", "--bind", "/dev", "/dev", "--proc", "/proc"]
        words += ["--ro-bind", "/sys", "/sys", "--tmpfs", "/run", "--dir", "/var/lib", "--dir", "/var/cache"]
        words += ["--tmpfs", "/tmp", "--bind", "/var/tmp", "/var/tmp"]  # noqa: S108 - the sandbox's own
        if access.network:
            for name in ("resolv.conf", "hosts", "ssl/certs"):
                words += ["--ro-bind-try", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"]
        for path in access.read:
            words += ["--ro-bind", str(path), str(path)]
        for path in access.write:
            words += ["--bind", str(path), str(path)]
        words += ["--setenv", "PATH", "/usr/bin:/usr/sbin", "--setenv", "HOME", "/tmp"]  # noqa: S108 - the sandbox's own
        words += ["--setenv", "TMPDIR", "/var/tmp"]  # noqa: S108 - the sandbox's own
        words += ["--chdir", str(cwd) if cwd else "/"]
        return [*words, "--", *map(str, argv)]

    def run(
        self,
        argv: Sequence[Argument],
        access: Access = Access(),
        *,
        timeout_s: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> Finished:
        """Run a program of the tree to its end; see `bedrock.process.run`.

        Raises:
            ProcessError: It failed or ran too long; the message names the program, not the sandbox.
        """
        try:
            words = self.command(argv, access, cwd=cwd, bound=True)
            return process.run(words, timeout_s=timeout_s, env=env, log=log, check=check)
        except ProcessError as error:
            message = f"{argv[0]} (tools tree) failed" if error.returncode else str(error).splitlines()[0]
            if error.returncode:
                message += f" with exit code {error.returncode}"
            raise ProcessError(message, returncode=error.returncode, tail=error.tail) from error

    def run_in(
        self,
        system: Path,
        argv: Sequence[Argument],
        *,
        shows: Mapping[str, Path],
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a program as if `system` were the running one, without a network; nothing of it can be changed.

        Args:
            system: A root folder with a merged `/usr`.
            argv: The program by its whole path; when `system` lacks it, this tree's.
            shows: More folders and files of the host, by the path at which they are seen.
            timeout_s: How long it may take.
            env: More of its environment.

        Returns:
            How it ended, whatever with.
        """
        sandbox = self.root / "usr/lib/python3/dist-packages/mkosi/sandbox.py"
        words = [*_namespaces(bound=True), "unshare", "--net", "--", sys.executable, "-SI", str(sandbox)]
        words += ["--ro-bind", str(system / "usr"), "/usr", "--ro-bind", str(system / "etc"), "/etc"]
        for target, link in _LINKS:
            words += ["--symlink", target, link]
        words += ["--bind", "/dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]
        for place in ("/run", "/tmp", "/var", _LENT):  # noqa: S108 - the sandbox's own
            words += ["--tmpfs", place]
        words += ["--dir", "/run/systemd", "--dir", "/var/tmp", "--setenv", "PATH", "/usr/bin:/usr/sbin"]  # noqa: S108 - the sandbox's own
        program: list[str] = [str(word) for word in argv]
        if not (system / program[0].lstrip("/")).exists():
            words += ["--ro-bind", str(self.root / "usr"), f"{_LENT}/usr"]
            program = [*self._lent_loader(), f"{_LENT}{program[0]}", *program[1:]]
        for place, path in shows.items():
            words += ["--ro-bind", str(path), place]
        return process.run([*words, "--chdir", "/", "--", *program], timeout_s=timeout_s, env=env, check=False)

    def _lent_loader(self) -> list[str]:
        """The words that start one of this tree's programs where another system's libraries are."""
        loader = min((self.root / "usr/lib64").glob("ld-linux*.so.*"), default=None) or min(
            (self.root / "usr/lib").glob("ld-linux*.so.*")
        )
        libraries = sorted({path.parent for path in (self.root / "usr/lib").glob("*/libc.so.6")})
        folders = [folder for each in libraries for folder in (each, each / "systemd")]
        search = ":".join(f"{_LENT}/{folder.relative_to(self.root)}" for folder in folders)
        return [f"{_LENT}/{loader.relative_to(self.root)}", "--library-path", search]

    def start(
        self,
        argv: Sequence[Argument],
        access: Access = Access(),
        *,
        stdin: int | None = DEVNULL,
        stdout: int | IO[bytes] | None = DEVNULL,
        stderr: int | IO[bytes] | None = STDOUT,
    ) -> Running:
        """Start a program of the tree that runs alongside us; the caller ends it."""
        return process.start(self.command(argv, access), stdin=stdin, stdout=stdout, stderr=stderr)


def locked_tools_folder(archive: Path, release: str, *, cache: Path) -> Path:
    """Where the tools tree that is made of a whole local archive is in the cache, or would be."""
    inputs = "\n".join((str(_FORMAT), release, archive.name, *PACKAGES, *_MMDEBSTRAP_OPTIONS))
    return cache / "tools" / f"locked-{bytes_sha256(inputs.encode())[:16]}"


def tools_identity() -> str:
    """The hash of everything the tree is made from, the mirror left aside (any mirror carries the same archive)."""
    inputs = "\n".join((str(_FORMAT), RELEASE, *PACKAGES, *_MMDEBSTRAP_OPTIONS))
    return bytes_sha256(inputs.encode())[:16]


def ensure_tools(
    mirrors: Mirrors | Callable[[], Mirrors], *, cache: Path, progress: Progress | None = None, run: Run = process.run
) -> ToolsTree:
    """Return the tools tree, making it first when the cache has none; writes below `cache` only.

    Args:
        mirrors: Where its packages come from, or what finds them, which is only asked when the tree is made.
        cache: Twinhull's cache folder.
        progress: Shows the steps.
        run: Runs a program of this machine to its end.

    Raises:
        ToolsError: mmdebstrap is missing or failed, or tools cannot be run on this machine.
        MirrorError: The tree must be made, and no mirror is known.
    """
    tree = ToolsTree(cache / "tools" / tools_identity())
    shown = progress or Silent()
    require_build_host()
    with only_one(cache / "tools" / ".lock", on_wait=lambda: shown.step("waiting for the tools tree")):
        if not (tree.root / ".complete").exists():
            shown.step("tools tree (first time: some minutes)")
            found = mirrors() if callable(mirrors) else mirrors
            lines = [f"deb {url} {suite} main" for url, suite in found.sources(RELEASE)]
            _make(tree.root, RELEASE, lines, log=cache / "tools" / f"{tree.root.name}.log", run=run)
            write_atomic(tree.root.parent / "current", tree.root.name + "\n")
    return tree


def ensure_tools_from(
    archive: Path, release: str, *, cache: Path, progress: Progress | None = None, run: Run = process.run
) -> ToolsTree:
    """Return the tools tree made of a whole local archive and nothing else; writes below `cache` only.

    The archive's folder is named by its content, and so is the tree.

    Args:
        archive: The archive's base folder.
        release: Its release.
        cache: Twinhull's cache folder.
        progress: Shows the steps.
        run: Runs a program of this machine to its end.

    Raises:
        ToolsError: mmdebstrap is missing or failed, or tools cannot be run on this machine.
    """
    tree = ToolsTree(locked_tools_folder(archive, release, cache=cache))
    shown = progress or Silent()
    require_build_host()
    with only_one(cache / "tools" / ".lock", on_wait=lambda: shown.step("waiting for the tools tree")):
        if not (tree.root / ".complete").exists():
            shown.step("tools tree of the lock (first time: some minutes)")
            log = cache / "tools" / f"{tree.root.name}.log"
            _make(tree.root, release, [f"deb [trusted=yes] copy://{archive} {release} main"], log=log, run=run)
    return tree


def _make(root: Path, release: str, lines: Sequence[str], *, log: Path, run: Run) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ToolsError("mmdebstrap is not installed").with_hint("run `make setup`, or install the package mmdebstrap")
    partial = root.with_suffix(".partial")
    if partial.exists():
        _inside(["rm", "-rf", "--one-file-system", partial], run)
    log.unlink(missing_ok=True)
    # In a namespace where this user is root: in mmdebstrap's own, root is another user, who cannot enter a home folder
    # that is closed to others.
    words = [*_namespaces(bound=True, mounts=True), "mmdebstrap", "--mode=root", "--format=directory"]
    words += [*_MMDEBSTRAP_OPTIONS, f"--include={','.join(PACKAGES)}"]
    try:
        with usual_umask():
            run([*words, release, partial, *lines], timeout_s=_BUILD_TIMEOUT_S, log=log)
        _inside(["touch", partial / ".complete"], run)
        _inside(["mv", partial, root], run)
    except ProcessError as error:
        raise ToolsError(f"the tools tree could not be made\n{error}").with_hint(
            f"the whole log is {log}; is the mirror reachable?"
        ) from error


def _inside(argv: Iterable[Argument], run: Run) -> None:
    """Run a program where the tree's files belong to root: here as root, else in the tree's user namespace."""
    run([*inside_user_namespace(), *argv], timeout_s=300)


@contextmanager
def usual_umask() -> Iterator[None]:
    """Set the umask, so that modes do not depend on who builds: with 077, folders of an image would be closed."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def inside_user_namespace() -> tuple[str, ...]:
    """The words before a program that must see the files of a tree as their root; none for root itself."""
    return _namespaces(bound=False)


def _namespaces(*, bound: bool, mounts: bool = False) -> tuple[str, ...]:
    """The words before a program; `mounts`: what it mounts (only if `bound`) is seen by nobody else."""
    user = root_of_its_own() if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--map-auto", "--")
    # A program that outlives a killed Twinhull would go on writing into a folder that the next build removes, and a
    # killed mkosi would leave dpkg and cp at work: the kernel ends the first with us (a change of user would undo that,
    # so it comes after), and a process namespace takes along what it started.
    own = ("--mount",) if mounts else ()
    return (*user, *_MORTAL, "unshare", *own, "--pid", "--fork", "--kill-child", "--") if bound else user
