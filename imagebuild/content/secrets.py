"""Compares the secrets found in an image with those the definition allows.

An image is the same for every host and is published, so a key in it is known to everybody who has the image and is the
same everywhere.  Keys that packages make during installation are removed; hosts make their own.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from imagebuild.definition.host import Secrets
from imagebuild.definition.image import BuildProfile
from imagebuild.definition.paths import FilePath

# Made by maintainers' scripts on the machine that installs, which here is the build.
_SNAKEOIL = "/etc/ssl/private/ssl-cert-snakeoil.key"
THROWN_AWAY = (
    "/etc/ssh/ssh_host_*_key",
    "/etc/ssh/ssh_host_*_key.pub",
    _SNAKEOIL,
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
)
WAYS_OUT = (
    "a secret of each host's own comes with `twinhull provision`, or a unit (`units`) makes it on the host",
    "`drop` in image.yaml takes a file out that a package made",
    "`secrets: {allow: [PATH]}` in image.yaml keeps a file that is no secret, or that every host may share",
)
_DEBUG = ("/etc/passwd", "/etc/shadow")


def secret_problems(
    found: Iterable[tuple[str, str]], secrets: Secrets, profile: BuildProfile | None
) -> tuple[str, ...]:
    """Problems for secrets that are not allowed, and for allowed paths without a secret."""
    found = tuple(found)
    allowed = allowed_paths(secrets)
    if profile is BuildProfile.DEBUG:
        # The profile is there to log in without one.
        found = tuple(each for each in found if not (each[0] in _DEBUG and each[1].startswith("root without")))
    problems = [f"{path} holds {what}" for path, what in found if path not in allowed]
    paths = {path for path, _ in found}
    problems += [
        f"secrets.allow names {written}, which holds no secret"
        for path, written in allowed.items()
        if path not in paths
    ]
    return tuple(problems)


def allowed_paths(secrets: Secrets) -> dict[str, str]:
    """The files that may hold a secret, by their paths in the image, as the definition writes them."""
    return {FilePath(str(path)).in_image: str(path) for path in secrets.allow}


def thrown_away_notes(thrown_away: Collection[str]) -> tuple[str, ...]:
    """What whoever builds the image should know of keys that were taken out; an SSH server's are made on the host."""
    if _SNAKEOIL not in thrown_away:
        return ()
    what = f"{_SNAKEOIL} of the package ssl-cert is not in the image, for every host would have the same"
    return (f"{what}: a unit can make one on each host (docs/image-definition.md, `secrets`)",)
