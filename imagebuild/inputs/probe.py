"""Whether a suite exists: only a clear "no such file" means that it does not.

A release may lack `-updates` or `-security` (sid has neither), and its mirror then answers 404; a mirror that gives no
answer, or another one, may be broken, and a build without updates must not pass for one that needs none.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import urllib3

from imagebuild.definition.sources import SECURITY
from imagebuild.errors import MirrorError
from imagebuild.inputs.archives import AptSuite, Presence

_TIMEOUT_S = 30
_RETRIES = urllib3.Retry(
    total=3, connect=1, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504), raise_on_status=False
)
_OK, _ABSENT = 200, (404, 410)


def is_there(suite: AptSuite) -> bool:
    """Whether the suite has an `InRelease`; what must be there is left to apt, which says more.

    Raises:
        MirrorError: The mirror gives no clear answer.
    """
    if suite.presence is Presence.REQUIRED:
        return True
    url = f"{suite.base}/InRelease"
    if url.startswith(("file:", "copy:")):
        return Path(re.sub(r"^(file|copy):/*", "/", url)).is_file()
    try:
        with closing(
            urllib3.request("GET", url, preload_content=False, retries=_RETRIES, timeout=_TIMEOUT_S)
        ) as answer:
            status = answer.status
    except urllib3.exceptions.HTTPError as error:
        raise _unsure(suite, str(getattr(error, "reason", None) or error)) from error
    # A server may answer 403 for a path that it does not have.
    guessed_wrongly = suite.presence is Presence.GUESSED and 400 <= status < 500  # noqa: PLR2004 - HTTP's own classes
    if status == _OK or status in _ABSENT or guessed_wrongly:
        return status == _OK
    raise _unsure(suite, f"it answered {status}")


def _unsure(suite: AptSuite, reason: str) -> MirrorError:
    error = MirrorError(f"the mirror does not say whether there is a suite {suite.name}: {suite.base}: {reason}")
    error.add_note("set mirror: in image.yaml, or TWINHULL_MIRROR, to one that this machine reaches")
    if suite.archive == SECURITY:
        error.add_note("`security: none` in image.yaml builds without security updates")
    return error
