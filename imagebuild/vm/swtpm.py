"""A software TPM 2.0 next to a machine."""

from __future__ import annotations

from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.process import Running
from imagebuild.errors import VmError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.vm.config import VmPaths
from imagebuild.vm.waiting import wait_for

_START_TIMEOUT_S = 20.0


def start_tpm(paths: VmPaths, tools: ToolsTree, *, clock: Clock = SYSTEM_CLOCK) -> Running:
    """Start the TPM and wait until it listens; it ends by itself when the machine closes its connection.

    Raises:
        VmError: It did not start.
    """
    paths.tpm_state.mkdir(exist_ok=True)
    words = ["setpriv", "--pdeathsig", "TERM", "--", "swtpm", "socket", "--tpm2", "--terminate"]
    words += ["--tpmstate", f"dir={paths.tpm_state}", "--ctrl", f"type=unixio,path={paths.tpm}"]
    log = paths.folder / "swtpm.log"
    with log.open("ab") as sink:
        tpm = tools.start(words, Access(write=(paths.folder, paths.sockets)), stdout=sink)

    def listening() -> bool | None:
        if tpm.poll() is not None:
            raise VmError(f"the software TPM did not start\n{log.read_text(errors='replace')}")
        return True if paths.tpm.exists() else None

    wait_for(listening, what="the software TPM", timeout_s=_START_TIMEOUT_S, clock=clock)
    return tpm
