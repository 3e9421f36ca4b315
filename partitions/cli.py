"""Values of the disk as they are typed on a command line."""

from __future__ import annotations

from typing import Final

from bedrock.cli import FromText
from partitions.version import Version

VERSION: Final = FromText("version", Version.from_text)
