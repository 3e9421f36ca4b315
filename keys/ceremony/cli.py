"""`twinhull sign`: puts signatures into a signing request, where only the key is."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_atomic
from keys.ceremony.request import SigningRequest, missing_lines, request_bytes
from keys.ceremony.signing import (
    KeyAtHand,
    WordsByKind,
    by_keyring,
    by_uris,
    explain,
    read_request,
    signed_with,
)
from keys.cli import keys_option, passphrase_option, passphrase_source
from keys.keyring import Keyring


def sign_command(words: WordsByKind) -> click.Command:
    """The command, for requests whose payloads these functions put into words."""

    @click.command("sign")
    @click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
    @click.option("--key", "uris", metavar="URI", multiple=True, help="A private key, such as file:root-1.pem.")
    @keys_option
    @passphrase_option
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @json_option
    def sign(
        *, file: Path, uris: tuple[str, ...], keys_folder: Path, passphrase_file: Path | None, yes: bool, as_json: bool
    ) -> int:
        """Show what a signing request asks for, and sign it with the keys that are here.

        Needs no repository and no network: take FILE to the key, and bring it back. What is shown is
        read from the bytes that are signed, not from the description that came with them. All keys of
        --keys that are asked for sign, or only those of --key. Exit code 4: they have signed already.

        \b
        Example:
          twinhull sign root-2.json --key file:/media/usb/root-1.pem
        """
        request, passphrase = read_request(file), passphrase_source(passphrase_file)
        told = explain(request, words)
        if uris:
            at_hand = by_uris(request, uris, passphrase)
        else:
            at_hand = by_keyring(request, Keyring.load(keys_folder), passphrase)
        for line in (*told, f"sign with {_named(at_hand)}"):
            click.echo(line, err=True)
        if not yes:
            _confirm()
        signed = signed_with(request, at_hand)
        if signed != request:
            write_atomic(file, request_bytes(signed))
        _report(file, signed, at_hand, as_json=as_json)
        return EXIT_NOTHING_TO_DO if signed == request else EXIT_DONE

    return sign


def _named(keys: tuple[KeyAtHand, ...]) -> str:
    return ", ".join(f"{each.key.label or 'the key'} ({each.key.keyid[:8]})" for each in keys)


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked without a terminal: read what is shown, and add --yes")
    click.confirm("Sign this?", abort=True, err=True)


def _report(file: Path, request: SigningRequest, keys: tuple[KeyAtHand, ...], *, as_json: bool) -> None:
    missing = list(missing_lines(request))
    if as_json:
        emit_json({"file": file, "signed_with": [each.key.keyid for each in keys], "missing": missing})
        return
    click.echo(f"{file}: signed by {_named(keys)}")
    for line in missing:
        click.echo(f"still missing: {line}")
    if not missing:
        click.echo("no signature is missing")
