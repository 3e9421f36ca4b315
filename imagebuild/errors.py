"""Errors of building and of running virtual machines.

ImageBuildError              1
├── ToolsError               1  the tools tree could not be made
├── MirrorError              1  no Debian mirror is known, or it does not answer
├── BuildError               1  a step of the build failed
│   └── BuiltBeforeError     1  this version was built before with other content
├── LockError                1  there is no lock, or it is not one of this definition
├── RefusedInputError        3  a file is not the one that was signed or locked
├── BudgetError              1  the image outgrew the budget of its definition
├── NotReproducedError       3  a release cannot be built again from what is here
├── SpaceError               1  the build host or a slot has too little room
├── VmError                  1  a virtual machine could not be started or did not do what was asked in time
└── TrimError                1  what a host touches could not be recorded, or its workload failed
"""

from __future__ import annotations

from bedrock.errors import EXIT_REFUSED, TwinhullError


class ImageBuildError(TwinhullError):
    """The root of this package's errors."""


class ToolsError(ImageBuildError):
    """The tools tree could not be made."""


class MirrorError(ImageBuildError):
    """No Debian mirror is known, or it does not answer."""


class BuildError(ImageBuildError):
    """A step of the build failed."""


class BuiltBeforeError(BuildError):
    """This version was built before with other content."""


class LockError(ImageBuildError):
    """There is no lock, or it is not one of this definition."""


class RefusedInputError(ImageBuildError):
    """A file is not the one that was signed or locked."""

    exit_code = EXIT_REFUSED


class BudgetError(ImageBuildError):
    """The image outgrew the budget of its definition."""


class NotReproducedError(ImageBuildError):
    """A release cannot be built again from what is here: the inputs are other ones."""

    exit_code = EXIT_REFUSED


class SpaceError(ImageBuildError):
    """The build host or a slot has too little room."""


class VmError(ImageBuildError):
    """A virtual machine could not be started, or did not do what was asked in time."""


class TrimError(ImageBuildError):
    """What a host touches could not be recorded, or its workload failed."""
