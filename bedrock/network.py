"""The environment variables that a program on the network needs: its own settings, proxies and certificates.

The subprocess gate passes on almost nothing, but package fetchers need the machine's index, proxy and certificates.
"""

from __future__ import annotations

from collections.abc import Mapping

_WAY_OUT = frozenset(("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "XDG_CONFIG_HOME"))


def pip_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The names in `ours` that pip reads: its own settings, proxies and certificates."""
    return {name: value for name, value in ours.items() if name.startswith("PIP_") or name.upper() in _WAY_OUT}
