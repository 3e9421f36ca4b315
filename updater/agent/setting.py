"""What every command starts from: the agent of the host that the command works on, and that host's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import click

from bedrock.clock import Clock
from updater.agent import config as configuration
from updater.agent import report
from updater.agent.agent import Agent
from updater.agent.config import Config, Loaded
from updater.agent.departure import Departure, departure_of
from updater.agent.device_filters import KernelDeviceFilters
from updater.agent.disk_gate import DiskGate
from updater.agent.host_paths import HostPaths
from updater.agent.machine import ThisMachine, folder_machine
from updater.agent.server import server_client
from updater.agent.store import HintStore


@dataclass(frozen=True)
class Setting:
    """What every command starts from."""

    agent: Agent
    settings: Loaded
    paths: HostPaths = field(default_factory=HostPaths)

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self.settings.config

    @property
    def departure(self) -> Departure:
        """The reboots of this host."""
        return departure_of(self.agent, self.paths)


def setting(*, warn: bool = True) -> Setting:
    """What the command was given to work with, else what this host says."""
    return click.get_current_context().find_object(Setting) or read_setting(here(), warn=warn)


def here() -> HostPaths:
    """The host that the command works on."""
    return click.get_current_context().find_object(HostPaths) or HostPaths()


def on_this_host() -> HostPaths:
    """The host that the command works on, which must be the one it runs on."""
    paths = here()
    if not paths.is_this_host:
        raise click.UsageError("this command works on the running host only, without --root")
    return paths


def read_setting(paths: HostPaths, *, warn: bool) -> Setting:
    """Read the settings and put the agent together; `warn`: say on stderr what was ignored in the settings."""
    settings = configuration.load(paths.settings(os.environ.get("CREDENTIALS_DIRECTORY")))
    for line in report.problem_lines(settings.problems) if warn else ():
        click.echo(f"warning: {line} (ignored)", err=True)
    machine = ThisMachine(gate=DiskGate(KernelDeviceFilters())) if paths.is_this_host else folder_machine(paths)
    server = server_client(settings.config, paths, machine.clock) if settings.config.urls else None
    store = hint_store(paths, machine.clock)
    return Setting(Agent(machine, settings.config, store, paths.runtime / "lock", server), settings, paths)


def hint_store(paths: HostPaths, clock: Clock) -> HintStore:
    """What is remembered on a host."""
    return HintStore(paths.state / "state.json", paths.runtime / "state.json", clock=clock)
