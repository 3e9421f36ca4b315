"""`twinhull server …`: serve a repository."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from bedrock.persist import write_atomic
from updater.errors import RepositoryError
from updater.server.app import create_app
from updater.server.limits import LIMITS_LOG, SparingFilter
from updater.server.listen import TlsFiles, bind_all, handed_over, serve


@click.command("server")
@click.argument("repository", metavar="REPO", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=["127.0.0.1"],
    show_default=True,
    help="Address to listen on; may be given several times.  :: is all addresses, 0.0.0.0 all of IPv4.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the server's URL into this file once it answers, for scripts.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Serve HTTPS with this certificate (PEM, its issuers after it).",
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The certificate's key (PEM)."
)
@click.option("--quiet", is_flag=True, help="Print no line per request.")
def server(
    *,
    repository: Path,
    hosts: tuple[str, ...],
    port: int,
    ready_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    quiet: bool,
) -> None:
    """Serve the repository REPO to hosts, read-only.

    Prints 'listening on URL' when it answers requests, and a line per request on stderr.
    Hosts verify every byte, so plain HTTP is safe against forgery; --tls-certificate and
    --tls-key hide what is downloaded. Started by a systemd socket unit, it listens where that
    says, and --host and --port do not count. /healthz answers 503 when any signed
    role is missing or expired (twinhull repo status shows which).

    \b
    Example:
      twinhull server repo --host :: --port 8080
      twinhull server repo --host :: --port 443 --tls-certificate server.pem --tls-key server.key
    """
    if not (repository / "metadata").is_dir():
        hint = f"make one: twinhull repo init {repository} --keys DIR"
        raise RepositoryError(f"there is no repository at {repository}").with_hint(hint)
    tls = _tls(tls_certificate, tls_key)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING if quiet else logging.INFO, format="%(asctime)s %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    for name in ("asyncio", "uvicorn.error", LIMITS_LOG):
        logging.getLogger(name).addFilter(SparingFilter())
    bound = handed_over(os.environ, os.getpid()) or bind_all(hosts, port)
    urls = [each.url_of("https" if tls else "http") for each in bound]

    def announce() -> None:
        click.echo(f"listening on {' and '.join(urls)}")
        sys.stdout.flush()
        if ready_file is not None:
            write_atomic(ready_file, f"{urls[0]}\n")

    serve(create_app(repository), bound, announce, tls=tls)


def _tls(certificate: Path | None, key: Path | None) -> TlsFiles | None:
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-certificate and --tls-key belong together")
    return TlsFiles(certificate, key) if certificate and key else None
