"""`twinhull reproduce`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bedrock import strict
from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_REFUSED
from imagebuild.console import open_progress
from imagebuild.inputs.mirror import mirrors_for
from imagebuild.inputs.tools import cache_folder
from imagebuild.reproduction.rebuild import Reproduction, ReproductionRequest, reproduce
from imagebuild.reproduction.render import show_report
from imagebuild.steps.scratch import remove_tree
from updater.repository.arguments.cli import RELEASE
from updater.repository.channels import ReleaseChoice

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("reproduce")
@click.argument("release", metavar="IMAGE/VERSION", type=RELEASE)
@click.option("--repo", "base", type=_FOLDER, required=True, help="The repository, or a copy of it.")
@click.option("--definition", type=_FOLDER, required=True, help="The image definition the release was built from.")
@click.option("--root", type=_FILE, help="The root.json hosts start from; else the repository's own is trusted.")
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
    base: Path,
    definition: Path,
    root: Path | None,
    offline: Path | None,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rebuild a published release from its lock, and say whether the bytes are the same.

    Needs no key: the published signatures are attached to the new build. Needs the image definition and the version of
    Twinhull that built the release; the lock comes from the repository. Every published file is checked first.
    Exit code 3 when something differs; then the report says where (diffoscope, if installed, writes a full report), and
    the new build is kept.

    \b
    Example:
      twinhull reproduce my-host/1.0.0 --repo repo --definition my-host
    """
    trusted = root.read_bytes() if root else None
    mirrors = None if offline else mirrors_for(definition)
    wanted = ReproductionRequest(base, release, definition, trusted_root=trusted, bundle=offline, mirrors=mirrors)
    place = out.absolute() if out else Path(tempfile.mkdtemp(prefix="twinhull-reproduced-")) / "build"
    kept = out is not None
    try:
        with open_progress(quiet=quiet or as_json) as progress:
            report = reproduce(wanted, out=place, cache=cache_folder(), progress=progress)
        kept = kept or not report.identical
    finally:
        if not kept:
            remove_tree(place.parent)
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
