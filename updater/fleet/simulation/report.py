"""What became of a played fleet, in words and as a picture.  Pure."""

from __future__ import annotations

from typing import Any

from updater.fleet.rollouts import why_it_stays
from updater.fleet.simulation.scenario import HourSample, Played

WIDTH = 50
_PARTS = (("healthy", "#"), ("failed", "x"), ("silent", "?"), ("under way", "-"))


def document(played: Played) -> dict[str, Any]:
    """Everything, for a program."""
    tally = played.tally
    return {
        "hosts": played.hosts,
        "state": played.rollout.state.value,
        "why": played.rollout.why or why_it_stays(played.rollout, tally, played.samples[-1].at),
        "wave": played.rollout.wave + 1,
        "told": tally.told,
        "healthy": tally.healthy,
        "failed": tally.failed,
        "silent": tally.silent,
        "most_away": played.most_away,
        "decisions": played.decisions,
        "grants": played.grants,
        "violations": played.violations,
        "hours": [
            {
                "at": f"{each.at:%Y-%m-%dT%H:%M:%SZ}",
                "wave": each.wave + 1,
                "state": each.state.value,
                "told": each.tally.told,
                "healthy": each.tally.healthy,
                "failed": each.tally.failed,
                "silent": each.tally.silent,
                "away": each.away,
            }
            for each in played.samples
        ],
    }


def lines(played: Played) -> list[str]:
    """For a person: a line for each few hours, then how it ended."""
    tally, rollout = played.tally, played.rollout
    every = max(1, len(played.samples) // 24)
    shown = [*played.samples[:-every:every], played.samples[-1]]
    why = rollout.why or why_it_stays(rollout, tally, played.samples[-1].at)
    ended = f"{rollout.state.value}{f': {why}' if why else ''}"
    broken = "; ".join(f"{name} {count}" for name, count in sorted(played.violations.items()))
    left = f"{played.hosts - tally.told} not told"
    return [
        "  ".join(f"{mark} {name}" for name, mark in _PARTS),
        *(_bar(each, played.hosts) for each in shown),
        "",
        f"in the end    wave {rollout.wave + 1} of {len(played.scenario.policy.rollouts.waves)}, {ended}",
        f"hosts         {played.hosts}: {tally.healthy} updated, {tally.failed} failed, {tally.silent} silent, {left}",
        f"away at once  {played.most_away} at most",
        f"violations    {broken or 'none'}",
    ]


def _bar(sample: HourSample, hosts: int) -> str:
    tally = sample.tally
    counts = (tally.healthy, tally.failed, tally.silent, max(0, tally.told - tally.settled))
    text, until, drawn = "", 0, 0
    for count, (_, mark) in zip(counts, _PARTS, strict=True):
        until += count
        # Every part that is not empty gets a character at least.
        width = max(round(WIDTH * until / hosts) - drawn, 1 if count and drawn < WIDTH else 0)
        text += mark * width
        drawn += width
    return (
        f"{sample.at:%a %H:%M}  wave {sample.wave + 1}  {sample.away:>6} away  |{text:<{WIDTH}}| {sample.state.value}"
    )
