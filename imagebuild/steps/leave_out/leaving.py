"""The build step: surveys the package tree, decides, removes what nothing needs, and checks the rest.

It comes after everything mkosi does, including the definition's own scripts, and before the tree is packed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access
from imagebuild.paths import EPOCH, SOURCE_ROOT
from imagebuild.steps.dpkg import InstalledPackage, read_database
from imagebuild.steps.leave_out.facts import Requests, TreeFacts, folders_of, owners_of, read_items, requested_packages
from imagebuild.steps.leave_out.lost import losses
from imagebuild.steps.leave_out.patterns import covers
from imagebuild.steps.leave_out.reach import LeaveOutDecision, Reason, decide
from imagebuild.steps.leave_out.rules import Rules, load_rules
from imagebuild.steps.placed import placed_files
from imagebuild.steps.products import PackageTree
from imagebuild.steps.workshop import Workshop

_TIMEOUT_S = 300
_SHOWN_LOSSES = 20
# Our own code comes after the tools tree's Python, so that no name in it hides one of the standard library.
_ENTRY = "import sys; sys.path.append(sys.argv.pop(1)); from imagebuild.steps.leave_out.survey import main; main()"


def leave_out(
    shop: Workshop, made: PackageTree, *, asked: Mapping[str, str], base: Collection[str]
) -> dict[str, Reason]:
    """Remove the files to leave out from the package tree (writes to the tree); returns why the others of the set stay.

    Args:
        shop: The build.
        made: The package tree.
        asked: The packages that image.yaml requests, and where.
        base: The packages that every image has, by name.

    Raises:
        BuildError: A file that stays would lack a library or an interpreter, or a line of `keep:` matches nothing.
    """
    rules = load_rules()
    installed = read_database(made.record)
    requests = _wish(shop, installed, asked=asked, base=base)
    tree = _surveyed(shop, made, rules, installed, requests)
    _require_kept(tree, requests)
    decision = decide(tree, rules, requests)
    if lost := losses(tree, decision):
        raise _broken(lost)
    _remove(shop, made.root, decision)
    return decision.stays


def _wish(
    shop: Workshop, installed: Sequence[InstalledPackage], *, asked: Mapping[str, str], base: Collection[str]
) -> Requests:
    definition, placed = shop.plan.definition, placed_files(shop)
    always = {*base, *(package.name for package in installed if package.essential)}
    return Requests(
        packages=requested_packages(installed, asked=asked, base=always),
        ours=placed.ours,
        definition=placed.definition,
        # A program that keeps its setuid bit was named in the definition as well.
        keep=(*definition.keep, *definition.hardening.setuid),
        drop=definition.drop,
    )


def _surveyed(
    shop: Workshop, made: PackageTree, rules: Rules, installed: Sequence[InstalledPackage], requests: Requests
) -> TreeFacts:
    owners = owners_of(installed)
    order = {
        "root": str(made.root),
        "patterns": rules.patterns,
        "closely": sorted(requests.definition | {path for path, owner in owners.items() if owner in requests.packages}),
    }
    path = shop.work / "survey.json"
    path.write_text(json.dumps(order))
    access = Access(read=(*shop.access.read, SOURCE_ROOT), write=shop.access.write)
    words = ("python3", "-IS", "-c", _ENTRY, SOURCE_ROOT, path)
    done = shop.tools.run(words, access, timeout_s=_TIMEOUT_S)
    return TreeFacts(read_items(json.loads(done.stdout)), owners)


def _require_kept(tree: TreeFacts, requests: Requests) -> None:
    """Refuse a line of `keep:` that matches nothing."""
    for pattern in requests.keep:
        matches = covers((pattern,))
        if not any(map(matches, tree.items)):
            raise BuildError(f"keep: {pattern} of image.yaml matches nothing in the image").with_hint(
                "is the package that brings it among packages: of image.yaml?"
            )


def _broken(lost: Sequence[str]) -> BuildError:
    shown = [*lost[:_SHOWN_LOSSES], *([f"… {len(lost) - _SHOWN_LOSSES} more"] if len(lost) > _SHOWN_LOSSES else [])]
    error = BuildError("\n  ".join(("the image lacks libraries or interpreters:", *shown)))
    error.add_note(
        "name the missing files under keep: in image.yaml, or delete the line of drop: (or of RemoveFiles= in "
        "mkosi.conf) that removes them"
    )
    return error


def _remove(shop: Workshop, root: Path, decision: LeaveOutDecision) -> None:
    """Remove files (writes to the package tree); folders that lose files keep the fixed time of all files."""
    changed = {folder for path in decision.removals for folder in folders_of(path)} - decision.out
    removals = [root / path[1:] for path in decision.removals]
    _each(shop, ("rm", "-rf", "--one-file-system", "--"), removals)
    _each(shop, ("touch", "--no-dereference", f"--date=@{EPOCH}", "--"), [root, *(root / path[1:] for path in changed)])


def _each(shop: Workshop, words: Sequence[str], paths: Sequence[Path]) -> None:
    """Run a program of the tools tree, where the tree's files belong to root, with these paths behind its words."""
    listing = shop.work / "paths"
    listing.write_bytes(b"".join(bytes(path) + b"\0" for path in paths))
    shop.tools.run(("xargs", "-0", "-a", listing, "-r", *words), shop.access, timeout_s=_TIMEOUT_S, log=shop.log)
