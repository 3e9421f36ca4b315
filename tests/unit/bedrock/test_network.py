"""What a package fetcher sees of our environment."""

from __future__ import annotations

from bedrock.network import pip_environment


def test_only_pips_settings_and_the_way_out_are_handed_on() -> None:
    ours = {"PIP_INDEX_URL": "file:///a", "https_proxy": "http://[::1]:1", "A_SECRET": "x", "PATH": "/bin"}
    assert pip_environment(ours) == {"PIP_INDEX_URL": "file:///a", "https_proxy": "http://[::1]:1"}
