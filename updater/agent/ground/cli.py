"""`updater reset`."""

from __future__ import annotations

import click

from bedrock.cli import emit_json, json_option
from updater.agent.ground.reset import ResetRequest, Scope, request_reset
from updater.agent.host_paths import HostPaths
from updater.agent.machine import ThisMachine, folder_machine, read_facts
from updater.errors import PolicyError


@click.command()
@click.option("--etc", is_flag=True, help="Reset /etc alone.")
@click.option(
    "--keep-identity", is_flag=True, help="Keep machine-id, hostname, ssh host keys and what was provisioned."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-reboot", is_flag=True, help="Only prepare it; the next reboot carries it out.")
@json_option
def reset(etc: bool, keep_identity: bool, yes: bool, no_reboot: bool, as_json: bool) -> None:
    """Reset this host and reboot: /var, /etc and all that it remembers are made anew, and the running version stays.

    \b
    Example:
      updater reset --etc --keep-identity --yes
    """
    paths = click.get_current_context().find_object(HostPaths) or HostPaths()
    machine = ThisMachine() if paths.is_this_host else folder_machine(paths)
    request = ResetRequest(Scope.ETC if etc else Scope.ALL, keep_identity)
    if not read_facts(machine).blessed:
        raise PolicyError("the running version is not blessed, and a reset would forget why it runs").with_hint(
            "wait for it to be blessed, or go back with `updater rollback`"
        )
    if not yes:
        click.confirm(f"{request}.  Go on?", abort=True, err=True)
    request_reset(paths.state, request)
    emit_json({"reset": request}) if as_json else click.echo(str(request))
    if not no_reboot:
        machine.reboot(force=False)
