"""The command behind `make demo`."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import run_command
from bedrock.errors import EXIT_DONE, EXIT_FAILED
from imagebuild.demo.story import run_demo
from imagebuild.inputs.mirror import find_mirrors


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("out/demo"), show_default=True)
def demo(out: Path) -> int:
    """Build, publish, boot, update and fall back once, and write OUT/report.json.

    Needs about ten minutes on two cores without hardware acceleration.
    """
    report = run_demo(out, mirrors=find_mirrors(), say=click.echo)
    return EXIT_DONE if report.ok else EXIT_FAILED


def main() -> None:
    """Entry point of `python -m imagebuild.demo`."""
    run_command(demo, prog_name="demo")
