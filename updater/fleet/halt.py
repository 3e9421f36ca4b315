"""When a rollout has failed so often that it must stop by itself.  Pure.

A share of failures means little while few hosts have settled: 2 of 50 is 4 %, and a release of which 1 % fail gives
that in 9 rollouts of 100.  So what counts is the lower confidence bound of the share (Clopper and Pearson, exact): a
rollout is halted when it is all but certain that more fail than the policy bears.  A cap in hosts comes on top.
Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma, log, log1p
from typing import Annotated

from bedrock import strict


@dataclass(frozen=True)
class HaltPolicy:
    """How many failures a rollout bears; hosts that went silent are among them.

    Attributes:
        most_share: The share of settled hosts that may fail.
        doubt: How unlikely so many failures have to be for a release at that share, before it is halted.
        most_hosts: Failures that halt it in any case; none when left out.
    """

    most_share: Annotated[float, strict.Range(0.0001, 0.5)] = 0.02
    doubt: Annotated[float, strict.Range(1e-9, 0.05)] = 0.001
    most_hosts: Annotated[int, strict.Range(1, 10_000_000)] | None = None


def why_halt(policy: HaltPolicy, *, failed: int, settled: int) -> str:
    """The reason to halt a rollout in which `failed` of `settled` hosts failed; empty when there is none."""
    if policy.most_hosts is not None and failed >= policy.most_hosts:
        return f"{failed} hosts failed, and {policy.most_hosts} halt it"
    if failed and chance_of(failed, settled, policy.most_share) < policy.doubt:
        return f"{failed} of {settled} hosts failed, which is more than {100 * policy.most_share:g} % beyond doubt"
    return ""


def chance_of(failed: int, settled: int, share: float) -> float:
    """The chance that at least `failed` of `settled` hosts fail where each does with the chance `share`.

    Raises:
        ValueError: More failed than settled, or the share is not in (0, 1).
    """
    if not 0 <= failed <= settled or not 0 < share < 1:
        raise ValueError(f"{failed} of {settled} at {share}")
    if failed == 0:
        return 1.0
    if failed <= settled * share:
        return 1.0 - sum(_exactly(each, settled, share) for each in range(failed))
    # From the largest term on: they only get smaller, and soon nothing is added.
    total, each = 0.0, failed
    while each <= settled:
        term = _exactly(each, settled, share)
        total += term
        if term <= total * 1e-12:
            break
        each += 1
    return min(1.0, total)


def _exactly(failed: int, settled: int, share: float) -> float:
    ways = lgamma(settled + 1) - lgamma(failed + 1) - lgamma(settled - failed + 1)
    return exp(ways + failed * log(share) + (settled - failed) * log1p(-share))
