"""`twinhull reproduce`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bedrock import strict
from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_REFUSED
from imagebuild.console import open_progress
from imagebuild.inputs.mirror import mirrors_for
from imagebuild.inputs.tools import cache_folder
from imagebuild.reproduction.rebuild import Reproduction, ReproductionRequest, reproduce
from imagebuild.reproduction.render import show_report
from imagebuild.steps.scratch import remove_tree
from updater.repository.arguments.cli import RELEASE, anchor_for, anchor_options
from updater.repository.channels import ReleaseChoice
from updater.repository.mirror.release_cache import local_repository

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("reproduce")
@click.argument("release", metavar="IMAGE/VERSION", type=RELEASE)
@click.option("--repo", "place", metavar="REPO", required=True, help="The repository: a folder, or an http(s) URL.")
@click.option("--definition", type=_FOLDER, required=True, help="The image definition the release was built from.")
@anchor_options
@click.option(
    "--offline",
    type=click.Path(path_type=Path, exists=True),
    metavar="BUNDLE",
    help="Build from a bundle, without a network.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the new build in this folder.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@json_option
@click.pass_context
def reproduce_command(
    context: click.Context,
    *,
    release: ReleaseChoice,
    place: str,
    definition: Path,
    root: Path | None,
    keys: Path | None,
    offline: Path | None,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rebuild a published release from its lock, and say whether the bytes are the same.

    Needs no key: the published signatures are attached to the new build. Needs the image definition and the version of
    Twinhull that built the release; the lock comes from the repository. Every published file is checked first.
    A repository in a folder is trusted as it is, unless --root or --keys says from where; one at a URL needs one of
    them, and what is fetched of it stays in the cache.
    Exit code 3 when something differs; then the report says where (diffoscope, if installed, writes a full report), and
    the new build is kept.

    \b
    Example:
      twinhull reproduce my-host/1.0.0 --repo repo --definition my-host
      twinhull reproduce my-host/1.0.0 --repo https://updates.example.com --root root.json --definition my-host
    """
    anchor = anchor_for(place, root, keys)
    mirrors = None if offline else mirrors_for(definition)
    folder = out.absolute() if out else Path(tempfile.mkdtemp(prefix="twinhull-reproduced-")) / "build"
    kept = out is not None
    try:
        with open_progress(quiet=quiet or as_json) as progress:
            there = local_repository(
                place, release, anchor, cache=cache_folder(), now=SYSTEM_CLOCK.now(), progress=progress
            )
            wanted = ReproductionRequest(
                there.base, release, definition, trusted_root=there.trusted_root, bundle=offline, mirrors=mirrors
            )
            report = reproduce(wanted, out=folder, cache=cache_folder(), progress=progress)
        kept = kept or not report.identical
    finally:
        if not kept:
            remove_tree(folder.parent)
    _tell(report, kept=kept, as_json=as_json)
    if not report.identical:
        context.exit(EXIT_REFUSED)


def _tell(report: Reproduction, *, kept: bool, as_json: bool) -> None:
    if as_json:
        emit_json({"identical": report.identical, **strict.plain(report), "out": str(report.out) if kept else None})
        return
    show_report(report)
    if kept:
        click.echo(f"the new build: {report.out}", err=True)
