"""`twinhull scan`."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_REFUSED
from imagebuild.attest.inventory import take_inventory
from imagebuild.attest.render import show_scan
from imagebuild.attest.scan import Threshold, match
from imagebuild.attest.tracker import load_tracker, parse_tracker
from imagebuild.attest.vex import parse_vex
from imagebuild.errors import BuildError
from updater.documents.bom import parse_bom
from updater.documents.build_files import SBOM_FILE


@click.command("scan")
@click.argument("build", metavar="BUILD|SBOM", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--tracker",
    required=True,
    metavar="PATH|URL",
    help="The Debian security tracker's data in JSON: https://security-tracker.debian.org/tracker/data/json.",
)
@click.option(
    "--vex",
    "vex_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="OpenVEX file that settles findings.",
)
@click.option(
    "--fail-on",
    "threshold",
    type=click.Choice([each.value for each in Threshold]),
    default=Threshold.FIXABLE.value,
    show_default=True,
    help="fixable: Debian has a fixed version; an urgency: that or worse (unrated findings count as the worst).",
)
@json_option
@click.pass_context
def scan(
    context: click.Context, *, build: Path, tracker: str, vex_file: Path | None, threshold: str, as_json: bool
) -> None:
    """Check a build's bill of materials for known vulnerabilities of its Debian packages.

    Takes the folder of a build or a CycloneDX file. Exit codes: 0 no finding reaches the
    threshold, 3 one does, 2 a document has errors.

    \b
    Example:
      twinhull scan out/my-host/1.0.0 --tracker tracker.json --vex my-host/openvex.json
    """
    path = build / SBOM_FILE if build.is_dir() else build
    if not path.is_file():
        raise BuildError(f"{build} holds no {SBOM_FILE}").with_hint("name a folder that `twinhull build` wrote")
    inventory = take_inventory(parse_bom(path.read_bytes(), source=str(path)), source=str(path))
    wanted = {(source.name, source.release) for source in inventory.sources}
    entries = parse_tracker(load_tracker(tracker), wanted, source=tracker)
    vex = parse_vex(vex_file.read_bytes(), source=str(vex_file)) if vex_file else None
    found = match(inventory, entries, vex=vex, threshold=Threshold(threshold))
    if as_json:
        emit_json(found)
    else:
        show_scan(found)
    if not found.clean:
        context.exit(EXIT_REFUSED)
