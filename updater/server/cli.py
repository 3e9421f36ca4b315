"""`twinhull server …`: serve a repository."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from bedrock.persist import write_atomic
from updater.errors import RepositoryError
from updater.server.app import create_app
from updater.server.listen import bind, serve


@click.command("server")
@click.argument("repository", metavar="REPO", type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all addresses.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the server's URL into this file once it answers, for scripts.",
)
@click.option("--quiet", is_flag=True, help="Print no line per request.")
def server(*, repository: Path, host: str, port: int, ready_file: Path | None, quiet: bool) -> None:
    """Serve the repository REPO to hosts, read-only.

    Prints 'listening on URL' when it answers requests, and a line per request on stderr.
    Hosts verify every byte, so plain HTTP is safe against forgery; put a TLS proxy in front
    if nobody may see what is downloaded. /healthz answers 503 when any signed
    role is missing or expired (twinhull repo status shows which).

    \b
    Example:
      twinhull server repo --host 0.0.0.0 --port 8080
    """
    if not (repository / "metadata").is_dir():
        hint = f"make one: twinhull repo init {repository} --keys DIR"
        raise RepositoryError(f"there is no repository at {repository}").with_hint(hint)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING if quiet else logging.INFO, format="%(asctime)s %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    bound = bind(host, port)

    def announce() -> None:
        click.echo(f"listening on {bound.url}")
        sys.stdout.flush()
        if ready_file is not None:
            write_atomic(ready_file, f"{bound.url}\n")

    serve(create_app(repository), bound, announce)
