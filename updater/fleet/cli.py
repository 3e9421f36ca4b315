"""`twinhull fleet …`."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_FAILED
from updater.errors import PolicyError
from updater.fleet.policy import FleetPolicy, parse_policy
from updater.fleet.simulation.report import document, lines
from updater.fleet.simulation.scenario import Scenario
from updater.fleet.simulation.world import play

_SHARE = click.FloatRange(0, 1)
_USUAL = Scenario()


@click.group("fleet")
def fleet() -> None:
    """Plan how releases spread over many hosts."""


@fleet.command("simulate")
@click.argument("policy", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--hosts", type=click.IntRange(1, 10_000_000), default=_USUAL.hosts, show_default=True, help="Hosts.")
@click.option("--hours", type=click.FloatRange(1, 8760), default=_USUAL.hours, show_default=True, help="Hours played.")
@click.option(
    "--failing", type=_SHARE, default=_USUAL.failing, show_default=True, help="Share on which the release fails."
)
@click.option(
    "--silent", type=_SHARE, default=_USUAL.silent, show_default=True, help="Share that never come back from a reboot."
)
@click.option("--joining", type=_SHARE, default=_USUAL.joining, show_default=True, help="Share that come later.")
@click.option("--zones", type=click.IntRange(1, 100), default=_USUAL.zones, show_default=True, help="Zones per group.")
@click.option("--seed", type=int, default=_USUAL.seed, show_default=True, help="Another number gives other chances.")
@json_option
def simulate(
    *,
    policy: Path | None,
    hosts: int,
    hours: float,
    failing: float,
    silent: float,
    joining: float,
    zones: int,
    seed: int,
    as_json: bool,
) -> int:
    """Play a release over a fleet, with the policy file POLICY, and print what would happen.

    The hosts are played, the decisions are those of a server.  It begins on a Wednesday at
    8:00 UTC. Without POLICY: five waves, one host of each group away at a time, no windows.

    Exit code 1: something happened that must never happen.

    \b
    Example:
      twinhull fleet simulate fleet.yaml --hosts 100000 --failing 0.05
    """
    found = parse_policy(policy.read_bytes(), source=str(policy)) if policy is not None else FleetPolicy()
    if found.environments:
        raise PolicyError("the policy has environments, and one rollout is played").with_hint(
            "play each environment with a policy of its groups"
        )
    scenario = Scenario(found, hosts, hours, zones=zones, failing=failing, silent=silent, joining=joining, seed=seed)
    played = play(scenario)
    if as_json:
        emit_json(document(played))
    else:
        click.echo("\n".join(lines(played)))
    return EXIT_FAILED if played.violations else EXIT_DONE
