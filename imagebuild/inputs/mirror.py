"""Which Debian mirrors to use: the image definition's, else the environment's, else what this host's apt uses.

A command finds them once and hands them on; whatever fetches is given them.
No mirror's host name is written here or anywhere else in Twinhull.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError
from imagebuild.definition.image import load_definition
from imagebuild.definition.sources import archive_url
from imagebuild.errors import MirrorError

VARIABLE = "TWINHULL_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECURITY_VARIABLE = "TWINHULL_SECURITY_MIRROR"


@dataclass(frozen=True)
class Mirrors:
    """Base URLs (the folders that hold `dists/`), without a final slash; `security` is None where none is known."""

    main: str
    security: str | None

    def sources(self, release: str) -> tuple[tuple[str, str], ...]:
        """The pairs of URL and suite that make up a Debian release here."""
        found = [(self.main, release), (self.main, f"{release}-updates")]
        if self.security is not None:
            found.append((self.security, f"{release}-security"))
        return tuple(found)


def find_mirrors(main: str | None = None, security: str | None = None) -> Mirrors:
    """Find the mirrors; `main` and `security` are what the image definition says, and come first.

    A security archive of this host's apt is only used together with its main archive.

    Raises:
        MirrorError: Nothing names one, or what names one is no URL.
    """
    stated = main or os.environ.get(VARIABLE)
    stated_security = security or os.environ.get(SECURITY_VARIABLE)
    if stated:
        return Mirrors(_checked(stated), _checked(stated_security) if stated_security else None)
    apt_main, apt_security = _mirrors_of_apt()
    if apt_main is None:
        raise MirrorError("no Debian mirror is known: the definition names none and apt here uses none").with_hint(
            f"set mirror: in image.yaml, or {VARIABLE}=URL in the environment"
        )
    found_security = stated_security or apt_security
    return Mirrors(_checked(apt_main), _checked(found_security) if found_security else None)


def mirrors_for(folder: Path) -> Mirrors:
    """Find the mirrors for the image definition in `folder`.

    Raises:
        DocumentError: The definition has errors.
        MirrorError: Nothing names a mirror, or what names one is no URL.
    """
    definition = load_definition(folder)
    return find_mirrors(definition.mirror, definition.security_mirror)


def _checked(url: str) -> str:
    if not re.fullmatch(r"(https?|file|copy):/\S+", url):
        raise MirrorError(f"the mirror {url!r} is not a URL").with_hint("a mirror looks like http://HOST/debian")
    return archive_url(url)


def _mirrors_of_apt() -> tuple[str | None, str | None]:
    """The main and the security archive of Debian among this host's apt sources."""
    fields = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)"
    try:
        done = process.run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], timeout_s=30)
    except ProcessError:
        return None, None
    main = security = None
    for line in done.stdout.splitlines():
        origin, codename, uri = line.split("|", 2)
        if origin != "Debian":
            continue
        if codename.endswith("-security"):
            security = security or uri
        else:
            main = main or uri
    return main, security
