"""Errors of the set-up.

SetupError                   1
└── MissingPackagesError     1  host packages are missing and only root may install them

A hint on each says what the user can do.
"""

from __future__ import annotations

from bedrock.errors import TwinhullError


class SetupError(TwinhullError):
    """The machine could not be made ready."""


class MissingPackagesError(SetupError):
    """Host packages are missing; the hint is the one command that installs them."""
