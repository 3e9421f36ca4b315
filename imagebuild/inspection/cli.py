"""`twinhull inspect` and `twinhull diff`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from imagebuild.console import open_progress
from imagebuild.inputs.mirror import find_mirrors
from imagebuild.inputs.tools import cache_folder, ensure_tools
from imagebuild.inspection.compare import compare
from imagebuild.inspection.published import PublishedInspection, inspect_published
from imagebuild.inspection.record import read_contents
from imagebuild.inspection.render import show_comparison, show_explanation, show_inspection, show_published
from imagebuild.inspection.report import inspect_build
from imagebuild.inspection.why import explain
from imagebuild.steps.leave_out.rules import load_rules
from updater.repository.arguments.cli import RELEASE, anchor_for, anchor_options
from updater.repository.channels import ReleaseChoice
from updater.repository.mirror.release_cache import local_repository
from updater.repository.mirror.staging import Anchor

_BUILD = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("inspect")
@click.argument("build", metavar="BUILD|IMAGE/VERSION")
@click.option("--why", "path", metavar="PATH", help="Explain why PATH is or is not in the image.")
@click.option("--all", "everything", is_flag=True, help="Print long lists in full.")
@click.option("--repo", "place", metavar="REPO", help="Look into a release in this repository: a folder, or a URL.")
@anchor_options
@json_option
@click.pass_context
def inspect(
    context: click.Context,
    *,
    build: str,
    path: str | None,
    everything: bool,
    place: str | None,
    root: Path | None,
    keys: Path | None,
    as_json: bool,
) -> None:
    """Show what the image in the folder BUILD holds, why, and what each part costs, raw and as a host downloads it.

    With --repo: what a published release is, from its signed documents, every byte of it checked. A repository at a
    URL needs --root or --keys, and what is fetched of it stays in the cache. Which package brought a file, and why, is
    known in a build's own folder alone.

    \b
    Example:
      twinhull inspect out/my-host/1.0.0
      twinhull inspect out/my-host/1.0.0 --json | jq .wire_bytes
      twinhull inspect out/my-host/1.0.0 --why /usr/bin/perl
      twinhull inspect my-host/1.0.0 --repo https://updates.example.com --root root.json
    """
    if place is not None:
        if path is not None:
            raise click.UsageError("--why needs the folder of a build, not a published release")
        choice = RELEASE.convert(build, None, context)
        published = _published(place, choice, anchor_for(place, root, keys), as_json=as_json)
        emit_json(published) if as_json else show_published(published, everything=everything)
        return
    folder = Path(_BUILD.convert(build, None, context))
    if path is not None:
        explained = explain(read_contents(folder), load_rules(), path)
        emit_json(explained) if as_json else show_explanation(explained)
        return
    with open_progress(quiet=as_json) as progress:
        tools = ensure_tools(find_mirrors, cache=cache_folder(), progress=progress)
        found = inspect_build(folder.absolute(), tools=tools, progress=progress, drivers=True)
    if as_json:
        emit_json(found)
    else:
        show_inspection(found, everything=everything)


def _published(place: str, choice: ReleaseChoice, anchor: Anchor | None, *, as_json: bool) -> PublishedInspection:
    with open_progress(quiet=as_json) as progress, tempfile.TemporaryDirectory(prefix="twinhull-inspect-") as scratch:
        there = local_repository(place, choice, anchor, cache=cache_folder(), now=SYSTEM_CLOCK.now(), progress=progress)
        return inspect_published(
            there.base, choice, scratch=Path(scratch), progress=progress, trusted_root=there.trusted_root
        )


@click.command("diff")
@click.argument("old", type=_BUILD)
@click.argument("new", type=_BUILD)
@json_option
def diff(*, old: Path, new: Path, as_json: bool) -> None:
    """Show what differs between the builds in the folders OLD and NEW, and what a host would have to download.

    \b
    Example:
      twinhull diff out/my-host/1.0.0 out/my-host/1.0.1
    """
    with open_progress(quiet=as_json) as progress:
        tools = ensure_tools(find_mirrors, cache=cache_folder(), progress=progress)
        before, after = (inspect_build(build.absolute(), tools=tools, progress=progress) for build in (old, new))
    found = compare(before, after)
    if as_json:
        emit_json(found)
    else:
        show_comparison(found)
