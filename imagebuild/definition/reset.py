"""`reset:` of `image.yaml`: who may reset a host.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

# By this kernel argument the boot menu's entry asks for a reset (data/initrd/usr/lib/twinhull/reset.sh).
RESET_ARGUMENT = "twinhull.reset"


@dataclass(frozen=True)
class ResetPolicy:
    """Who may reset a host, besides root on it.

    Attributes:
        boot_menu: Whether the boot menu has an entry for it, for everybody at the console.
    """

    boot_menu: bool = False
