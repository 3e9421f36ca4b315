"""Decides which files of the leave-out set stay, and why: a file stays if something that stays needs it.

Always kept: every name outside of the leave-out set, and in it the files that image.yaml adds (`files:`, units,
`mkosi.extra/`), keeps (`keep:`), or requests by package.  From there on:
    - a library stays for files that are linked to it, or whose notes require it
    - an interpreter stays for a script, a program for a unit or a udev rule that starts it
    - a PAM or NSS module stays for the file that names it
    - a link keeps its target
    - a section that belongs together (`together`, `follows`) stays as a whole
Files that image.yaml requested keep more: programs that their scripts call, paths that they contain, units that their
units name, and libraries that they can use.  Twinhull's own packages do not keep these: the leave-out set was written
for them.
`drop:` of image.yaml overrides all of this except the definition's own files.  Pure.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from imagebuild.steps.leave_out.facts import Requests, TreeFacts, TreeItem, folders_of
from imagebuild.steps.leave_out.patterns import covers, merged
from imagebuild.steps.leave_out.rules import Rules, SectionKind

_ALTERNATIVES = "/etc/alternatives/"


@dataclass(frozen=True)
class Reason:
    """Why a file of the leave-out set stays: a phrase, and the path of the file that needs it, if it is a file."""

    words: str
    by: str | None = None


@dataclass(frozen=True)
class LeaveOutDecision:
    """The files of the leave-out set that stay, with reasons, and the files to remove.

    Attributes:
        stays: Files and links of the leave-out set that stay.
        out: Everything that goes: files, links and folders.
    """

    stays: dict[str, Reason] = field(default_factory=dict)
    out: frozenset[str] = frozenset()

    @property
    def removals(self) -> tuple[str, ...]:
        """The paths to remove with everything below them, each once and sorted."""
        return tuple(sorted(path for path in self.out if posixpath.dirname(path) not in self.out))


def decide(tree: TreeFacts, rules: Rules, requests: Requests) -> LeaveOutDecision:
    """Decide for each name in the tree whether it stays."""
    return _Search(tree, rules, requests).result()


class _Search:
    """One search from the files that always stay to everything that they need."""

    def __init__(self, tree: TreeFacts, rules: Rules, requests: Requests) -> None:
        self._tree, self._wish = tree, requests
        self._own = requests.ours | requests.definition
        self._keeps = covers(requests.keep)
        found = ((path, rules.section_of(path)) for path in tree.items)
        self._sections = {path: section for path, section in found if section is not None}
        drops = covers(requests.drop)
        self._never = {
            path for path in tree.items if self._is(path, SectionKind.NEVER) or (drops(path) and path not in self._own)
        }
        self._members: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        for path, section in self._sections.items():
            self._members[section.name].append(path)
            if (tree.items[path].target or "").startswith(_ALTERNATIVES):
                self._names[tree.way(path)[-1]].append(path)
        self._leaders = [section for section in rules.sections if section.follows]
        self._whole: set[str] = set()
        self._stays: dict[str, Reason] = {}
        self._waiting: deque[str] = deque()

    def result(self) -> LeaveOutDecision:
        """Search, and return the result."""
        firm = [path for path in self._tree.items if path not in self._sections and path not in self._never]
        self._waiting += firm
        for path in self._sections:
            if reason := self._asked_for(path):
                self._stay(path, reason)
        while self._waiting:
            path = self._waiting.popleft()
            for reached, words in self._reached(self._tree.items[path]):
                self._stay(reached, Reason(words, path))
        there = (*firm, *self._stays)
        used = {folder for path in there for folder in folders_of(path)}
        out = frozenset(self._tree.items.keys() - used - set(there))
        return LeaveOutDecision(dict(sorted(self._stays.items())), out)

    def _asked_for(self, path: str) -> Reason | None:
        """Why a name of the leave-out set stays by itself, if it does."""
        section, owner = self._sections[path], self._tree.owners.get(path, "")
        request = self._wish.packages.get(owner)
        if path in self._wish.definition:
            return Reason("the image definition puts it there")
        if path in self._wish.ours:
            return Reason("Twinhull puts it there")
        if self._keeps(path):
            return Reason("image.yaml: keep")
        if request is not None and section.kind.stays_with(by_name=request.by_name):
            return Reason(f"part of a requested package: {request}")
        wanted = next((name for name in section.packages if name in self._wish.packages), None)
        return Reason(f"useful to a requested package: {self._wish.packages[wanted]}") if wanted else None

    def _stay(self, path: str, reason: Reason) -> None:
        item = self._tree.items[path]
        if path in self._sections and not item.folder and path not in self._stays and path not in self._never:
            self._stays[path] = reason
            self._waiting.append(path)

    def _reached(self, item: TreeItem) -> Iterator[tuple[str, str]]:
        """The names of the leave-out set that a file which stays needs directly, and the phrases for it."""
        asked = self._is_asked(item.path)
        yield from self._sections_of(item)
        for name in item.needed:
            yield from self._named(name, "is linked to it")
        for names in (*item.required, *(item.optional if asked else ())):
            yield from self._named(next((name for name in names if name in self._tree.by_name), ""), "loads it")
        for name in item.loads:
            yield from self._named(name, "has it loaded")
        yield from self._at(self._tree.interpreters(item), "is run by it")
        yield from self._at(item.runs, "starts it")
        if item.target is not None and (asked or item.path in self._stays):
            yield from ((path, "leads to it") for path in self._tree.way(item.path)[1:])
        yield from ((path, "is another name of it") for path in self._names.get(item.path, ()))
        if asked:
            yield from self._at(
                (path for path in item.calls if not self._is(path, SectionKind.DOCUMENTATION)), "calls it"
            )
            passed = (path for path in item.mentions if not self._is(path, SectionKind.DOCUMENTATION, SectionKind.TOOL))
            yield from self._at(passed, "names it")

    def _sections_of(self, item: TreeItem) -> Iterator[tuple[str, str]]:
        """The sections that stay as a whole because this file stays."""
        own = self._sections.get(item.path)
        # A file of the definition that replaces Debian's, such as a masked unit, is not a reason for the others.
        whole = [own] if own is not None and own.together and item.path not in self._own else []
        for section in (*whole, *(section for section in self._leaders if section.is_led_by(item.path))):
            if section.name not in self._whole:
                self._whole.add(section.name)
                yield from ((path, f"is useless without it ({section.name})") for path in self._members[section.name])

    def _is_asked(self, path: str) -> bool:
        """Whether image.yaml requested a file, so that everything it could use is kept as well."""
        return (
            path in self._wish.definition
            or self._tree.owners.get(path) in self._wish.packages
            or (path in self._stays and self._keeps(path))
        )

    def _is(self, path: str, *kinds: SectionKind) -> bool:
        section = self._sections.get(path)
        return section is not None and section.kind in kinds

    def _named(self, name: str, words: str) -> Iterator[tuple[str, str]]:
        return ((path, words) for path in self._tree.by_name.get(name, ()))

    def _at(self, paths: Iterable[str], words: str) -> Iterator[tuple[str, str]]:
        """Paths as the tree spells them, with all links on the way."""
        return ((each, words) for path in paths for each in self._tree.way(merged(path)))
