"""`twinhull trim`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.progress import Progress
from imagebuild.console import open_progress
from imagebuild.definition.image import load_definition
from imagebuild.errors import TrimError
from imagebuild.inputs.mirror import Mirrors, find_mirrors
from imagebuild.trim.judging import Priced, TrimOutcome
from imagebuild.trim.render import show_outcome
from imagebuild.trim.trimming import MachineRehearsal, TrimOptions, trim
from imagebuild.trim.writing import lines_of, write_lines

_MOST_WORKLOAD_BYTES = 64 << 10
_WORKLOAD_HELP = "Shell script that the host runs as well, once before the update and once after it."


def _trim(options: TrimOptions, *, mirrors: Mirrors, progress: Progress) -> TrimOutcome:
    rehearsal = MachineRehearsal.make(options, mirrors=mirrors, progress=progress)
    return trim(options, rehearsal, progress=progress)


@dataclass(frozen=True)
class Trimmer:
    """What trims here; another one stands in for it in tests."""

    trim: Callable[..., TrimOutcome] = _trim


@click.command("trim")
@click.argument("definition", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--workload", type=click.Path(path_type=Path, exists=True, dir_okay=False), help=_WORKLOAD_HELP)
@click.option("--write", is_flag=True, help="Add the listed proposals to DEFINITION/image.yaml.")
@click.option("--all", "everything", is_flag=True, help="List (and write) small proposals, too.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Working folder [default: out/trim/ID].")
@click.option(
    "--memory",
    "memory_mib",
    type=click.IntRange(min=1024),
    default=4096,
    show_default=True,
    help="Memory of the virtual machine in MiB.",
)
@json_option
@click.pass_context
def trim_command(
    context: click.Context,
    *,
    definition: Path,
    workload: Path | None,
    write: bool,
    everything: bool,
    out: Path | None,
    memory_mib: int,
    as_json: bool,
) -> int:
    """Find what the image of DEFINITION never uses, and propose to drop it.

    Builds the image twice with temporary keys, boots it in a virtual machine, runs containers and an update there,
    and records every file and kernel module that is touched.  It proposes to drop files that were not touched, that no
    touched file needs and that are on no keep-list, with the bytes each proposal saves; you decide.  A script given
    with --workload runs in the machine as root with TWINHULL_STAGE=before-update, then after-update, and should do what
    your hosts do.  Takes several minutes.
    Exit code 4: --write found nothing to add.

    \b
    Example:
      twinhull trim my-host
      twinhull trim my-host --workload my-workload.sh --write
    """
    wanted = load_definition(definition)
    place = out or Path("out") / "trim" / wanted.id
    options = TrimOptions(definition, place.absolute(), _own(workload), memory_mib, everything)
    trimmer, mirrors = context.find_object(Trimmer) or Trimmer(), find_mirrors(wanted.mirror, wanted.security_mirror)
    with open_progress(quiet=as_json) as progress:
        found = trimmer.trim(options, mirrors=mirrors, progress=progress)
    lines = lines_of(each.proposal for each in found.listed)
    written = write_lines(definition, lines) if write and lines else None
    if as_json:
        emit_json(outcome_values(found, written))
    else:
        show_outcome(found)
        if written:
            click.echo(f"\nwritten to {written}; build it and boot it before you publish it")
    return EXIT_NOTHING_TO_DO if write and not written else EXIT_DONE


def outcome_values(found: TrimOutcome, written: Path | None) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "image": found.image,
        "files": found.files,
        "touched_files": found.touched_files,
        "staying_files": found.staying_files,
        "image_raw_bytes": found.raw_bytes,
        "lines": lines_of(each.proposal for each in found.listed),
        "together": found.together,
        "proposals": [_values(each) for each in found.proposals],
        "written": str(written) if written else None,
    }


def _values(each: Priced) -> dict[str, Any]:
    proposal = each.proposal
    return {
        "key": "drop_modules" if proposal.modules else "drop",
        "lines": proposal.lines,
        "packages": proposal.packages,
        "files": [entry.path for entry in proposal.files],
        "needed_by": proposal.needed_by,
        "raw_bytes": each.cost.raw_bytes,
        "wire_bytes": each.cost.wire_bytes,
    }


def _own(workload: Path | None) -> str | None:
    if workload is None:
        return None
    raw = workload.read_bytes()
    if len(raw) > _MOST_WORKLOAD_BYTES:
        raise TrimError(f"{workload} has {len(raw)} bytes, a workload may have {_MOST_WORKLOAD_BYTES}").with_hint(
            "let it fetch what it needs from the host's network"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise TrimError(f"{workload} is not text") from error
