"""`twinhull keys …`: make, show and check a keys folder.

Also the options with which other commands open keys: `--keys`, `--passphrase-file` and the passphrase behind it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOTHING_TO_DO
from keys.boot_changes import new_boot_key, use_token
from keys.changes import ForeignKey, add, revoke, revoke_retiring, rotate, set_threshold, what_follows
from keys.check import Finding, Severity, check
from keys.generate import init
from keys.keyring import Keyring
from keys.listing import Listing, lines, listing
from keys.passphrase import (
    FILE_VARIABLE,
    TOKEN_SUBJECT,
    VARIABLE,
    FixedPassphrase,
    NoPassphrase,
    PassphraseSource,
    demanded,
    from_environment,
)
from keys.public import read_public
from keys.roles import BootRole, Profile, TufRole
from keys.token_uri import PKCS11
from keys.tokens import open_token_key, require_public
from keys.uri import parse_uri

Command = TypeVar("Command", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path, file_okay=False)
DEFAULT_FOLDER = Path("my-keys")
_PUBLIC_HELP = "The public half of a key made elsewhere [default: what the token shows]."
FOLDER_VARIABLE = "TWINHULL_KEYS"


@dataclass
class Prompt:
    """Asks on the terminal: once for all keys in files, and once for each token, which a wrong PIN would lock."""

    answers: dict[str, str] = field(default_factory=dict, repr=False)

    def passphrase(self, subject: str) -> str | None:
        """The answer given before, or a question about `subject`."""
        in_token = subject.startswith(TOKEN_SUBJECT)
        asked = subject if in_token else ""
        if asked not in self.answers:
            question = f"PIN of {subject}" if in_token else f"Passphrase of {subject}"
            self.answers[asked] = click.prompt(question, hide_input=True, err=True)
        return self.answers[asked]


def keys_option(command: Command, *, name: str = "keys_folder") -> Command:
    """Add `--keys` to a command; it arrives as the keyword `name`."""
    return click.option(
        "--keys",
        name,
        type=_FOLDER,
        envvar=FOLDER_VARIABLE,
        default=DEFAULT_FOLDER,
        show_default=True,
        show_envvar=True,
        help="The folder that `twinhull keys init` made.",
    )(command)


def passphrase_option(command: Command) -> Command:
    """Add `--passphrase-file` to a command; it arrives as the keyword `passphrase_file`."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"File whose first line opens encrypted keys. Else {FILE_VARIABLE} or {VARIABLE} is taken.",
    )(command)


def passphrase_source(file: Path | None) -> PassphraseSource:
    """The passphrase for opening keys: the file, the environment, or a question when a person sits at the terminal."""
    source = from_environment(file=file)
    return Prompt() if isinstance(source, NoPassphrase) and sys.stdin.isatty() else source


def _open_option(command: Command) -> Command:
    return click.option("--no-passphrase", is_flag=True, help="Leave the private files unencrypted.")(command)


@click.group("keys")
def keys() -> None:
    """Make, show and check the keys everything is signed with.

    A keys folder has a public side (keyring.yaml, certificates) and private files.
    For production, make it on a machine without a network and distribute the private files:
    snapshot and timestamp to the machine that refreshes the repository, releases and db to
    the build pipeline, channels to the release manager; root and targets stay offline.

    \b
    Example:
      twinhull keys init my-keys --profile dev
      twinhull keys show my-keys
      twinhull keys check my-keys
    """


@keys.command("init")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option(
    "--profile",
    required=True,
    type=click.Choice([profile.value for profile in Profile]),
    help="dev: one root key. production: three root keys, two of which must sign; encrypted.",
)
@passphrase_option
@_open_option
@json_option
def init_command(folder: Path, profile: str, passphrase_file: Path | None, no_passphrase: bool, as_json: bool) -> None:
    """Make all keys of a profile in DIR, which must be new or empty.

    Nothing is ever overwritten. Private files get mode 0600 and are encrypted when a passphrase
    is given by file or environment. The dev profile needs no passphrase; the production profile
    asks for one on a terminal, and without a terminal requires a passphrase or --no-passphrase.

    \b
    Example:
      twinhull keys init my-keys --profile dev
      twinhull keys init /media/usb/keys --profile production --passphrase-file pass.txt
    """
    if no_passphrase and passphrase_file is not None:
        raise click.UsageError("--passphrase-file and --no-passphrase exclude each other")
    chosen = Profile(profile)
    source = NoPassphrase() if no_passphrase else _new_passphrase(chosen, passphrase_file)
    _show(listing(init(folder, chosen, source)), as_json=as_json)


@keys.command("show")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@json_option
def show_command(folder: Path, as_json: bool) -> None:
    """Show the roles of DIR: key ids, thresholds, locations of private keys, end of certificates.

    No private file is opened, so no passphrase is needed.

    \b
    Example:
      twinhull keys show my-keys --json
    """
    _show(listing(Keyring.load(folder)), as_json=as_json)


@keys.command("check")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@passphrase_option
@json_option
@click.pass_context
def check_command(context: click.Context, folder: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Check DIR for problems; exit code 1 when a finding is an error, not only a warning.

    Checks modes and owners, missing files, private keys inside git work trees, unencrypted
    production keys, keys that do not match the keyring or their certificate, and certificates
    that have expired or will within 30 days.

    \b
    Example:
      twinhull keys check my-keys --passphrase-file pass.txt
    """
    findings = check(folder, passphrase=from_environment(file=passphrase_file))
    if as_json:
        emit_json({"folder": folder, "findings": findings})
    else:
        _print_findings(folder, findings)
    if any(finding.severity is Severity.ERROR for finding in findings):
        context.exit(EXIT_FAILED)


def _role_argument(command: Command) -> Command:
    return click.argument("role", metavar="ROLE", type=click.Choice([role.value for role in TufRole]))(command)


@dataclass(frozen=True)
class NewKeyOptions:
    """How a role gets a new key: made elsewhere, or made here and encrypted with a passphrase."""

    passphrase: PassphraseSource
    foreign: ForeignKey | None


def _new_key_options(command: Command) -> Command:
    """Add `DIR ROLE` and what says how a new key comes to be, which arrives as the keyword `given`."""

    @functools.wraps(command)
    def gathered(
        *,
        folder: Path,
        role: str,
        public: Path | None,
        uri: str | None,
        passphrase_file: Path | None,
        no_passphrase: bool,
        as_json: bool,
    ) -> None:
        foreign = _foreign(public, uri, passphrase_file)
        open_files = no_passphrase or foreign is not None
        passphrase = NoPassphrase() if open_files else _new_passphrase(Keyring.load(folder).profile, passphrase_file)
        command(folder=folder, role=TufRole(role), given=NewKeyOptions(passphrase, foreign))
        _changed(folder, TufRole(role), as_json=as_json)

    file = click.Path(path_type=Path, dir_okay=False, exists=True)
    parameters = (
        click.argument("folder", metavar="DIR", type=_FOLDER),
        _role_argument,
        click.option("--public", type=file, metavar="PEM", help=_PUBLIC_HELP),
        click.option("--uri", metavar="URI", help="Where its private half is, such as pkcs11:…."),
        passphrase_option,
        _open_option,
        json_option,
    )
    return functools.reduce(lambda made, add_to: add_to(made), reversed(parameters), cast("Command", gathered))


def _foreign(public: Path | None, uri: str | None, pin: Path | None) -> ForeignKey | None:
    """A key that was made elsewhere; a token shows its public half itself."""
    if public is not None and uri is not None:
        return ForeignKey(read_public(public), uri)
    if public is None and uri is None:
        return None
    named = parse_uri(uri) if uri is not None else None
    if named is None or named.scheme != PKCS11:
        raise click.UsageError("--public and --uri belong together, unless the URI is a token's")
    _, found = open_token_key(str(named), named.token, None, demanded(passphrase_source(pin)))
    return ForeignKey(require_public(str(named), found), str(named))


@keys.command("rotate")
@_new_key_options
def rotate_command(folder: Path, role: TufRole, given: NewKeyOptions) -> None:
    """Give ROLE new keys: made here, or one that was made elsewhere.

    The keys until now sign along, so that hosts accept what is signed before and after; once the
    repository has the new keys, take the old ones out with `twinhull keys revoke`.

    \b
    Example:
      twinhull keys rotate my-keys timestamp
      twinhull keys rotate my-keys channels --uri 'pkcs11:token=card;object=channels'
    """
    rotate(folder, role, given.passphrase, foreign=given.foreign)


@keys.command("add")
@_new_key_options
def add_command(folder: Path, role: TufRole, given: NewKeyOptions) -> None:
    """Give ROLE one more key: made here, or one that was made elsewhere.

    \b
    Example:
      twinhull keys add my-keys root
    """
    add(folder, role, given.passphrase, foreign=given.foreign)


@keys.command("boot-key")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("role", type=click.Choice([role.value for role in BootRole]))
@click.option("--uri", metavar="URI", help="An RSA key in a token, pkcs11:… [default: a new key in a file].")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="PEM",
    help="The certificate of the key in the token [default: one is made, signed by the key itself].",
)
@passphrase_option
@_open_option
@json_option
def boot_key_command(
    *,
    folder: Path,
    role: str,
    uri: str | None,
    certificate: Path | None,
    passphrase_file: Path | None,
    no_passphrase: bool,
    as_json: bool,
) -> None:
    """Give the boot ROLE (db, KEK, PK, pcr) another key: a new one in a file, or one in a token.

    Its certificate is a new file in DIR; what was there stays. Hosts do not follow by themselves: before a
    new db key signs a release, announce its certificate with `twinhull keys trust-boot`. What a host bound
    to the key pcr opens with that key's signatures only.

    \b
    Example:
      twinhull keys boot-key my-keys db
      twinhull keys boot-key my-keys db --uri 'pkcs11:token=release;object=db'
    """
    if uri is None and certificate is not None:
        raise click.UsageError("--certificate belongs to a key in a token: give its --uri")
    now, chosen = SYSTEM_CLOCK.now(), BootRole(role)
    if uri is None:
        secret = NoPassphrase() if no_passphrase else _new_passphrase(Keyring.load(folder).profile, passphrase_file)
        made = new_boot_key(folder, chosen, secret, now=now)
    else:
        pin = passphrase_source(passphrase_file)
        made = use_token(folder, chosen, parse_uri(uri), pin, now=now, certificate=certificate)
    if as_json:
        emit_json({"role": role, "certificate": made})
    else:
        click.echo(f"{role} has another key; its certificate is {made}")


@keys.command("revoke")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--retiring", is_flag=True, help="All keys that were rotated out.")
@json_option
def revoke_command(folder: Path, key: str | None, retiring: bool, as_json: bool) -> int:
    """Take a key out of its role, for good. Its private file stays.

    KEY is the beginning of its id, or the last part of its URI. Exit code 4: no key retires.

    \b
    Example:
      twinhull keys revoke my-keys root-3.pem
      twinhull keys revoke my-keys --retiring
    """
    if (key is None) is not retiring:
        raise click.UsageError("give a KEY, or --retiring")
    roles = revoke_retiring(folder) if key is None else (revoke(folder, key),)
    _changed(folder, *roles, as_json=as_json)
    return EXIT_DONE if roles else EXIT_NOTHING_TO_DO


@keys.command("threshold")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@_role_argument
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@json_option
def threshold_command(folder: Path, role: str, number: int, as_json: bool) -> None:
    """Change how many keys of ROLE must sign. A lower number takes effect only by `twinhull root`.

    \b
    Example:
      twinhull keys threshold my-keys root 2
    """
    set_threshold(folder, TufRole(role), number)
    _changed(folder, TufRole(role), as_json=as_json)


def _changed(folder: Path, *roles: TufRole, as_json: bool) -> None:
    _show(listing(Keyring.load(folder)), as_json=as_json)
    for sentence in dict.fromkeys(map(what_follows, roles)):
        click.echo(f"next, unless the repository has these keys already: {sentence}", err=True)


def _show(shown: Listing, *, as_json: bool) -> None:
    if as_json:
        emit_json(shown)
        return
    for line in lines(shown):
        click.echo(line)


def _print_findings(folder: Path, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        click.echo(f"{finding.severity.value}: {finding.subject}: {finding.message} [{finding.rule.value}]")
    if not findings:
        click.echo(f"{folder}: no problems found")


def _new_passphrase(profile: Profile, file: Path | None) -> PassphraseSource:
    source = from_environment(file=file)
    if not isinstance(source, NoPassphrase) or profile is Profile.DEV:
        return source
    if not sys.stdin.isatty():
        message = "production keys need a passphrase: give --passphrase-file, or decline it with --no-passphrase"
        raise click.UsageError(message)
    answer: str = click.prompt("Passphrase for the new keys", hide_input=True, confirmation_prompt=True, err=True)
    return FixedPassphrase(answer, origin="the passphrase")
