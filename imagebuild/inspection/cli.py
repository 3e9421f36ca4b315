"""`twinhull inspect` and `twinhull diff`."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from imagebuild.console import open_progress
from imagebuild.inputs.mirror import find_mirrors
from imagebuild.inputs.tools import cache_folder, ensure_tools
from imagebuild.inspection.compare import compare
from imagebuild.inspection.record import read_contents
from imagebuild.inspection.render import show_comparison, show_explanation, show_inspection
from imagebuild.inspection.report import inspect_build
from imagebuild.inspection.why import explain
from imagebuild.steps.leave_out.rules import load_rules

_BUILD = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("inspect")
@click.argument("build", type=_BUILD)
@click.option("--why", "path", metavar="PATH", help="Explain why PATH is or is not in the image.")
@click.option("--all", "everything", is_flag=True, help="Print long lists in full.")
@json_option
def inspect(*, build: Path, path: str | None, everything: bool, as_json: bool) -> None:
    """Show what the image in the folder BUILD holds, why, and what each part costs, raw and as a host downloads it.

    \b
    Example:
      twinhull inspect out/my-host/1.0.0
      twinhull inspect out/my-host/1.0.0 --json | jq .wire_bytes
      twinhull inspect out/my-host/1.0.0 --why /usr/bin/perl
    """
    if path is not None:
        explained = explain(read_contents(build), load_rules(), path)
        emit_json(explained) if as_json else show_explanation(explained)
        return
    with open_progress(quiet=as_json) as progress:
        tools = ensure_tools(find_mirrors, cache=cache_folder(), progress=progress)
        found = inspect_build(build.absolute(), tools=tools, progress=progress, drivers=True)
    if as_json:
        emit_json(found)
    else:
        show_inspection(found, everything=everything)


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
