"""Builds a locked image once, under the circumstances that a request names; `reproducible.py` starts it.

It is a process of its own because most circumstances belong to a whole process: the umask, the processors, the user,
the network.  The clock is faked for every program of the tools tree (libfaketime), which is where one is read.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedrock import process, strict
from bedrock.process import Argument, Finished
from bedrock.progress import Silent
from imagebuild.inputs.bundle import open_bundle
from imagebuild.inputs.mirror import mirrors_for
from imagebuild.inputs.supply import load_lock, locked_supply
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import plan_build
from imagebuild.steps.signing import KeySource
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from partitions.version import Version

SOURCE = Path(__file__).resolve().parent.parent
# An unused user id; subordinate ids far above those that distributions assign.
USER = 47_110
_FIRST_SUBORDINATE = 4_000_000
_SUBORDINATES = 65_536
_TIMEOUT_S = 60
# Not below a folder that mmdebstrap binds into its tree: it could not with another mount inside.
_INTERPRETER = Path("/mnt")
_NOTHING = Access()


@dataclass(frozen=True)
class BuildRequest:
    """One build.

    Attributes:
        place: A folder of its own, for what only this build needs.
        clock: How far the clock of the tools is ahead, as faketime says it, such as `+400d`.
        umask: In octal.
        cpus: How many processors it may use; all when None.
        alone: Run in a network namespace that has no interface.
        user: Whether to run as a user that is not root.
    """

    place: str
    definition: str
    keys: str
    root_of_trust: str
    out: str
    cache: str
    bundle: str | None = None
    clock: str | None = None
    umask: str = "022"
    cpus: int | None = None
    alone: bool = False
    user: bool = False


@dataclass(frozen=True)
class LateTools(ToolsTree):
    """Tools whose clock is ahead."""

    ahead: str = "+0d"

    def run(
        self,
        argv: Sequence[Argument],
        access: Access = _NOTHING,
        *,
        timeout_s: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> Finished:
        words = [*at_time(self.ahead), *argv]
        return super().run(words, access, timeout_s=timeout_s, cwd=cwd, env=env, log=log, check=check)


def at_time(when: str) -> list[Argument]:
    """The words before a program of the tools tree that make it see another time, as libfaketime(1) writes times.

    Without its wrapper `faketime`: that creates a semaphore named after its process id, which repeats in every process
    namespace, and fails when another build, or a killed one, has the same.
    """
    settings = {
        "LD_PRELOAD": "/usr/$LIB/faketime/libfaketime.so.1",
        "FAKETIME": when,
        "FAKETIME_DISABLE_SHM": "1",
        # Another clock, and the same times of files.
        "NO_FAKE_STAT": "1",
    }
    return ["env", "TZ=UTC", *(f"{name}={value}" for name, value in settings.items())]


def build(request: BuildRequest) -> None:
    """Build, as the process that this is."""
    if request.cpus is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request.cpus])
    os.umask(int(request.umask, 8))
    definition, cache = Path(request.definition), Path(request.cache)
    cache.mkdir(parents=True, exist_ok=True)
    if request.alone:
        _require_alone()
    if request.bundle is not None:
        lock = open_bundle(Path(request.bundle), definition, cache=cache)
        supply = locked_supply(definition, lock, mirrors=None, cache=cache, progress=Silent())
    else:
        lock, mirrors = load_lock(definition), mirrors_for(definition)
        supply = locked_supply(definition, lock, mirrors=mirrors, cache=cache, progress=Silent())
    if request.clock is not None:
        supply = replace(supply, tools=LateTools(supply.tools.root, ahead=request.clock))
    plan = plan_build(
        definition,
        version=Version("1.0.0"),
        signatures=KeySource(Keyring.load(Path(request.keys)), NoPassphrase()),
        root_of_trust=Path(request.root_of_trust),
        supply=supply,
        out=Path(request.out),
    )
    build_image(plan)


def become_user(request: BuildRequest) -> None:
    """Turn this process (root, in a mount namespace of its own) into another user's and start over; does not return.

    The user and its subordinate ids exist in this namespace only; so does a second path to the interpreter, for root's
    home may be closed to others.
    """
    place = Path(request.place)
    names = {
        "passwd": f"builder:x:{USER}:{USER}::{place}:/bin/false\n",
        "group": f"builder:x:{USER}:\n",
        "subuid": f"builder:{_FIRST_SUBORDINATE}:{_SUBORDINATES}\n",
        "subgid": f"builder:{_FIRST_SUBORDINATE}:{_SUBORDINATES}\n",
    }
    for name, line in names.items():
        (place / name).write_text(Path("/etc", name).read_text() + line)
        process.run(["mount", "--bind", place / name, Path("/etc", name)], timeout_s=_TIMEOUT_S)
    process.run(["mount", "--bind", sys.base_prefix, _INTERPRETER], timeout_s=_TIMEOUT_S)
    # Asked while root's home is still open to us.
    path = os.pathsep.join((str(SOURCE), sysconfig.get_paths()["purelib"]))
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    program = _INTERPRETER / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(place)
    os.execve(program, [str(program), __file__, sys.argv[1]], environment)  # noqa: S606 - the same program, as another user


def _require_alone() -> None:
    """Prove that there is no network, so that a build that touches one cannot pass."""
    names = [name for _, name in socket.if_nameindex()]
    if names != ["lo"] or Path("/proc/self/net/route").read_text().count("\n") > 1:
        raise SystemExit(f"this is not a namespace without a network: it has {names}")


def main(path: Path) -> None:
    """Read the request in the file and do it."""
    request = strict.read_json(BuildRequest, path.read_bytes(), source=str(path))
    if request.user and os.geteuid() == 0:
        become_user(request)
    build(request)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
