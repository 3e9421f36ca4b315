"""Fixtures of the integration tests: real programs come from the tools tree, so that no test depends on the host's."""

from __future__ import annotations

import pytest

from imagebuild.inputs.mirror import find_mirrors
from imagebuild.inputs.tools import ToolsTree, cache_folder, ensure_tools


@pytest.fixture(scope="session")
def tools() -> ToolsTree:
    """The tools tree."""
    return ensure_tools(find_mirrors(), cache=cache_folder())
