"""The way from a definition to a finished build, as functions that a test replaces one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagebuild.inputs.mirror import Mirrors, mirrors_for
from imagebuild.inputs.supply import Supply, locked_supply, newest_supply
from imagebuild.pipeline.build import Built, build_image
from imagebuild.steps.plan import BuildPlan, plan_build
from imagebuild.steps.program import program_sha256


@dataclass(frozen=True)
class BuildChain:
    """What builds here; another one stands in for it in tests.

    Attributes:
        program: The hash of this program.
        mirrors: The mirrors for the definition in a folder.
        newest: Tools and packages that the mirrors offer now.
        locked: Tools and packages of a lock.
        plan: Plans a build.
        build: Builds it.
    """

    program: Callable[[], str] = program_sha256
    mirrors: Callable[[Path], Mirrors] = mirrors_for
    newest: Callable[..., Supply] = newest_supply
    locked: Callable[..., Supply] = locked_supply
    plan: Callable[..., BuildPlan] = plan_build
    build: Callable[..., Built] = build_image
