"""A clean Debian 13 as the build host: the README's first commands in a root with git, make and Python alone.

`make test-build-host` runs it, as root.  The root folder is made by mmdebstrap from this machine's mirrors; this
repository is cloned into it, so only what is committed counts.  From this machine come its resolver, its certificates
and the settings of pip; caches and keys are new.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from figures import MachineFacts, facts, write_document
from workbench import OUT, SOURCE

from bedrock import process
from bedrock.errors import ProcessError
from imagebuild.inputs.mirror import find_mirrors

RELEASE = "trixie"
PACKAGES = ("git", "make", "python3", "ca-certificates")
TARGETS = ("setup", "image")
_TIMEOUT_S = 3600
_SHARED = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_PLACE = "/srv/twinhull"
_WORKED = "worked"


@dataclass(frozen=True)
class Step:
    """One command in the clean root: its exit code, and seconds."""

    command: str
    exit_code: int
    seconds: float


@dataclass(frozen=True)
class BuildHostResult:
    """What came out."""

    machine: MachineFacts
    commit: str
    python: str
    plain_chroot: str
    steps: tuple[Step, ...]


@contextmanager
def clean_root() -> Iterator[Path]:
    """A new Debian 13 that is a mount point, removed at the end."""
    root = OUT / "build-host" / "root"
    shutil.rmtree(root.parent, ignore_errors=True)
    root.mkdir(parents=True)
    lines = [f"deb {url} {suite} main" for url, suite in find_mirrors().sources(RELEASE)]
    words = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=apt", f"--include={','.join(PACKAGES)}"]
    process.run([*words, RELEASE, root, *lines], timeout_s=_TIMEOUT_S, log=root.parent / "mmdebstrap.log")
    for name in filter(os.path.isfile, _SHARED):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(name, target)
    for wheels in filter(os.path.isdir, os.environ.get("PIP_FIND_LINKS", "").split()):
        shutil.copytree(wheels, root / wheels.lstrip("/"))
    process.run(["git", "clone", "--quiet", "--no-hardlinks", SOURCE, root / _PLACE.lstrip("/")], timeout_s=300)
    try:
        yield root
    finally:
        shutil.rmtree(root)


def entered(root: Path, *, bound: bool) -> list[str]:
    """The words before a command that runs in `root`, in mounts of its own; `bound`: the root is a mount point."""
    bind = 'mount --bind "$0" "$0"; ' if bound else ""
    script = (
        f'{bind}mount -t proc proc "$0/proc"; mount --rbind /sys "$0/sys"; mount --rbind /dev "$0/dev"; '
        'mount -t tmpfs tmpfs "$0/run"; exec chroot "$0" "$@"'
    )
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--")
    return [*own, "sh", "-euc", script, str(root)]


def run_in(root: Path, words: Sequence[str], *, log: Path | None = None, bound: bool = True) -> process.Finished:
    """Run a command in the root with this machine's settings of pip and proxies."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    settings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", **kept}
    clean = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
    return process.run([*entered(root, bound=bound), *clean, *words], timeout_s=_TIMEOUT_S, log=log, check=False)


def measure(targets: Sequence[str]) -> BuildHostResult:
    """Run the commands until one fails."""
    with clean_root() as root:
        log = root.parent / "build-host.log"
        steps: list[Step] = []
        for target in targets:
            began = time.monotonic()
            done = run_in(root, ["make", "-C", _PLACE, target], log=log)
            steps.append(Step(f"make {target}", done.returncode, round(time.monotonic() - began, 1)))
            if done.returncode:
                break
        python = run_in(root, ["python3", "--version"]).stdout.strip()
        commit = process.run(["git", "-C", SOURCE, "rev-parse", "HEAD"], timeout_s=30).stdout.strip()
        return BuildHostResult(facts(), commit, python, _plain_chroot(root), tuple(steps))


def _plain_chroot(root: Path) -> str:
    """What a build says in a root folder that is not a mount point."""
    inside = f"{_PLACE}/.venv/bin/twinhull"
    if not (root / inside.lstrip("/")).exists():
        return "not tried: make setup failed"
    done = run_in(root, [inside, "lock", f"{_PLACE}/examples/container-host"], bound=False)
    return _WORKED if done.returncode == 0 else done.stderr.strip()


def main() -> None:
    """Run it, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help="targets of make [default: setup image]")
    targets = parser.parse_args().targets
    if os.geteuid() != 0:
        sys.exit("test-build-host makes and enters a root folder: run it as root")
    try:
        result = measure(targets)
    except ProcessError as error:
        sys.exit(f"the clean root could not be made: {error}")
    write_document(SOURCE / "out" / "build-host.json", asdict(result))
    for step in result.steps:
        print(f"{step.command}: exit code {step.exit_code} after {step.seconds:.0f} s")  # noqa: T201 - its output
    if any(step.exit_code for step in result.steps):
        sys.exit(f"failed; the log is {OUT / 'build-host' / 'build-host.log'}")
    if result.plain_chroot != _WORKED:
        sys.exit(f"failed in a plain chroot: {result.plain_chroot}")


if __name__ == "__main__":
    main()
