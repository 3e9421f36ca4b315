"""The machine that runs a rehearsed host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagebuild.inputs.tools import ToolsTree
from imagebuild.rehearsal.guest import HOST, updater_credential
from imagebuild.rehearsal.stage import Served, Stage
from imagebuild.vm.config import Accelerator, VmConfig
from imagebuild.vm.images import certificates_of
from imagebuild.vm.machine import VirtualMachine


def host_config(stage: Stage, build: Path, served: Served, *, memory_mib: int = 2048, **settings: Any) -> VmConfig:
    """A machine that boots a build under Secure Boot and updates from the stage's server.

    Args:
        stage: Whose keys the build is signed with.
        build: The build's folder.
        served: The update server.
        memory_mib: The machine's memory.
        settings: More of the agent's settings.
    """
    return VmConfig(
        image=build / "disk.raw",
        memory_mib=memory_mib,
        certificates=certificates_of(stage.keyring),
        credentials=(updater_credential(f"http://{HOST}:{served.port}", **settings),),
        guest_shell=True,
    )


@contextmanager
def run_host(stage: Stage, config: VmConfig, *, tools: ToolsTree, accelerator: Accelerator) -> Iterator[VirtualMachine]:
    """Run the machine for as long as the context lasts (writes below the stage)."""
    folder = stage.out / "machine"
    shutil.rmtree(folder, ignore_errors=True)
    with VirtualMachine(config, tools=tools, accelerator=accelerator, folder=folder) as machine:
        yield machine
