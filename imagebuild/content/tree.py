"""Reading and changing a built tree.

Without root the tree belongs to other users of the build's namespace, so a small program does the work inside the
tools tree (`tree_program.py`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedrock.process import Argument, Finished
from imagebuild.content import secret_program, tree_program
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree

_TIMEOUT_S = 300
QUIET = {"SYSTEMD_LOG_TARGET": "console", "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_COLOR": "0"}


@dataclass(frozen=True)
class TreeContents:
    """The requested part of a tree: texts, links with their targets, and folders, by paths in the image."""

    texts: dict[str, str]
    links: dict[str, str]
    folders: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The paths of texts and links."""
        return frozenset((*self.texts, *self.links))


@dataclass(frozen=True)
class TreeEdit:
    """Changes to make in a tree.

    Attributes:
        remove: Files to remove, as patterns; a missing file is not an error.
        write: Texts by path, with their modes.
        copy: Files of the build host by path, with their modes.
        link: Links by path, with their targets.
        users: New ids of users by their old ones.
        groups: The same of groups.
    """

    remove: tuple[str, ...] = ()
    write: dict[str, tuple[int, str]] = field(default_factory=dict)
    copy: dict[str, tuple[int, Path]] = field(default_factory=dict)
    link: dict[str, str] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)
    groups: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EditableTree:
    """A tree on the build host.

    Attributes:
        root: Where it is.
        tools: Whose programs look at it.
        access: What they may see of the host; the tree among it, to write to.
        scratch: A folder that both sides see.
        epoch: The time of files that are written, in seconds.
    """

    root: Path
    tools: ToolsTree
    access: Access
    scratch: Path
    epoch: int

    def read(self, *patterns: str) -> TreeContents:
        """What the patterns (paths in the image; `*` is any part of one name, `**` any folders) match."""
        answer = self._ask(tree_program.__file__, {"read": patterns})
        return TreeContents(answer["texts"], answer["links"], tuple(answer["folders"]))

    def strings_of_modules(self, words: Iterable[str]) -> frozenset[str]:
        """Those of the words that some kernel module holds as a string."""
        return frozenset(self._ask(tree_program.__file__, {"modules": sorted(words)})["found"])

    def secrets(self, packaged: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Everything in the tree that looks like a secret, by path and kind; `packaged` are paths that packages own."""
        answer = self._ask(secret_program.__file__, {"packaged": sorted(packaged)})
        return tuple((path, what) for path, what in answer["found"])

    def change(self, change: TreeEdit) -> None:
        """Write a change into the tree."""
        request = {
            "epoch": self.epoch,
            "remove": change.remove,
            "write": [(path, mode, text) for path, (mode, text) in change.write.items()],
            "copy": [(str(source), path, mode) for path, (mode, source) in change.copy.items()],
            "link": list(change.link.items()),
            "owners": {"users": change.users, "groups": change.groups},
        }
        self._ask(tree_program.__file__, {"change": request})

    def make_locale(self, *, source: str, name: str) -> str:
        """Write a locale's data into the tree; what localedef said when it failed, else nothing."""
        request = {"source": source, "name": name, "epoch": self.epoch}
        return str(self._ask(tree_program.__file__, {"locale": request})["failed"])

    def systemctl(self, *words: Argument) -> str:
        """What systemctl of the tools tree says about the tree."""
        argv = ["systemctl", f"--root={self.root}", *words]
        return self.tools.run(argv, self.access, timeout_s=_TIMEOUT_S, env=QUIET).stdout

    def run(self, argv: Sequence[Argument], *, shows: Mapping[str, Path], timeout_s: float = _TIMEOUT_S) -> Finished:
        """Run a program as on a host of this image, read-only and without a network.

        Args:
            argv: The program by its path in the image; the tools tree's is taken where the image lacks it.
            shows: Folders and files of the build host, by the path at which the program sees them.
            timeout_s: How long it may take.
        """
        return self.tools.run_in(self.root, argv, shows=shows, timeout_s=timeout_s, env=QUIET)

    def _ask(self, program: str, request: Mapping[str, object]) -> Any:
        with tempfile.NamedTemporaryFile("w", dir=self.scratch, suffix=".json", delete=False) as stream:
            json.dump({"tree": str(self.root), **request}, stream)
        asked = Path(stream.name)
        # Readable for any user that the namespace maps us to.
        asked.chmod(0o644)
        source = Path(program)
        access = Access(read=(*self.access.read, source), write=self.access.write)
        try:
            done = self.tools.run(["python3", "-I", source, asked], access, timeout_s=_TIMEOUT_S)
        finally:
            asked.unlink()
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise BuildError(f"{source.name} answered with no JSON: {done.stdout[:200]!r}") from error
