"""Fixtures of the integration tests: real programs come from the tools tree, so that no test depends on the host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.inputs.mirror import find_mirrors
from imagebuild.inputs.tools import ToolsTree, cache_folder, ensure_tools
from tests.fakes.played_initrd import PlayedInitrd


@pytest.fixture(scope="session")
def tools() -> ToolsTree:
    """The tools tree."""
    return ensure_tools(find_mirrors(), cache=cache_folder())


@pytest.fixture
def machine(tmp_path: Path, tools: ToolsTree) -> PlayedInitrd:
    """A root folder to boot the initrd in."""
    return PlayedInitrd(tmp_path / "root", tools)
