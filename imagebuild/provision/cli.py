"""`twinhull provision`: a host's own configuration, checked and written into the disk it will boot from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_atomic
from imagebuild.errors import BuildError
from imagebuild.inputs.mirror import find_mirrors
from imagebuild.inputs.tools import cache_folder, ensure_tools
from imagebuild.provision.disks import open_disk
from imagebuild.provision.placing import Placing
from imagebuild.provision.signing import make_key, sign
from imagebuild.vm.images import DISK_NAMES
from keys.cli import passphrase_option, passphrase_source
from keys.passphrase import from_environment
from keys.public import read_ed25519
from keys.uri import KeyUri
from updater.etc_policy import EtcPolicy
from updater.provision.encrypted import is_encrypted
from updater.provision.files import files_of
from updater.provision.reading import CREDENTIAL, MAX_OFFERED_BYTES, is_envelope, read_unverified


class _Provision(click.Group):
    """A group whose first word may also be a disk: `twinhull provision DISK FILE` is `twinhull provision write …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the usual command before words that begin with none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["write", *args]
        return super().parse_args(ctx, args)


@click.group("provision", cls=_Provision, subcommand_metavar="[write] DISK FILE | COMMAND")
def provision() -> None:
    """Give a host its own configuration before its first boot.

    FILE configures the host: hostname, network, users and ssh keys, files, units and Quadlets,
    registries, proxy, CA certificates, update server and channel (docs/provisioning.md has every key).
    It is written to the boot partition of DISK: a disk.raw or disk.qcow2, the folder of a build, or a
    block device. The same text can reach a host through its firmware as the systemd credential
    twinhull.provision.

    \b
    twinhull provision --check web-1.yaml
    twinhull provision out/my-host/1.0.0/disk.raw web-1.yaml
    twinhull provision /dev/sdb web-1.yaml
    """


# Without `etc_keep`, which is the image's own.
_SIGNED_ONLY = "  (only in a signed document, unless the image has etc: overlay or lists it)"


@provision.command("write")
@click.argument("words", nargs=-1, type=click.Path(path_type=Path), metavar="DISK FILE")
@click.option("--check", is_flag=True, help="Only check FILE; no DISK is named.")
@click.option("--remove", is_flag=True, help="Remove the document from DISK; no FILE is named.")
@json_option
def write_command(words: tuple[Path, ...], check: bool, remove: bool, as_json: bool) -> int:
    """Check FILE and write it to the boot partition of DISK.

    Nothing is mounted, and a power cut leaves the old document or the new one. Writing the same
    document again changes nothing (exit code 4).

    \b
    Example:
    twinhull provision write out/my-host/1.0.0/disk.raw web-1.yaml
    """
    if check and remove:
        raise click.UsageError("--check and --remove exclude each other")
    if len(words) != (1 if check or remove else 2):
        wanted = "FILE" if check else "DISK" if remove else "DISK and FILE"
        raise click.UsageError(f"name {wanted}")
    if check:
        return _show_check(words[-1], as_json=as_json)
    data = b"" if remove else _read(words[1])
    disk = _disk(words[0])
    tools = ensure_tools(find_mirrors, cache=cache_folder())
    with tempfile.TemporaryDirectory(prefix="twinhull-provision-", dir="/var/tmp") as name:
        scratch = Path(name)
        placing = Placing(open_disk(disk, tools, scratch), tools, scratch)
        changed = placing.remove(CREDENTIAL) if remove else placing.put(CREDENTIAL, data)
    if as_json:
        emit_json({"disk": disk, "changed": changed})
    else:
        click.echo(f"{disk}: {_outcome(changed=changed, remove=remove)}")
    return EXIT_DONE if changed else EXIT_NOTHING_TO_DO


@provision.command("key")
@click.argument("private", type=click.Path(path_type=Path, dir_okay=False))
@passphrase_option
@json_option
def key_command(private: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a key that signs documents: PRIVATE, and next to it the public half, NAME.pub.

    The image names the public half under `provision: {signed_by: [NAME.pub]}`. A passphrase given by file
    or environment encrypts PRIVATE.

    \b
    Example:
      twinhull provision key fleet.pem
    """
    public = private.with_suffix(".pub")
    text = make_key(private, public, from_environment(file=passphrase_file))
    if as_json:
        emit_json({"private": private, "public": public, "key": text})
    else:
        click.echo(f"wrote {private} and {public}")


@provision.command("sign")
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", "key", required=True, metavar="KEY", help="The private key: a PEM file or a key URI.")
@click.option("--public", type=click.Path(path_type=Path), help="Its public half [default: NAME.pub next to it].")
@click.option("--out", type=click.Path(path_type=Path), help="The signed file to write [default: DOCUMENT.signed].")
@passphrase_option
@json_option
def sign_command(
    *, document: Path, key: str, public: Path | None, out: Path | None, passphrase_file: Path | None, as_json: bool
) -> None:
    """Sign DOCUMENT, so that hosts accept it at any boot; its `serial:` must be above that of the last one.

    \b
    Example:
      twinhull provision sign web-1.yaml --key fleet.pem
      twinhull provision /dev/sdb web-1.yaml.signed
    """
    uri = KeyUri.of_path(Path(key).absolute()) if ":" not in key else _uri(key)
    if public is None:
        if not uri.is_file:
            raise click.UsageError("name the public half of this key with --public")
        public = uri.path.with_suffix(".pub")
    target = out or document.with_name(f"{document.name}.signed")
    source = passphrase_source(passphrase_file)
    signed = sign(_bytes(document), source=str(document), uri=str(uri), public=public, passphrase=source)
    write_atomic(target, signed)
    if as_json:
        emit_json({"signed": target, "key": read_ed25519(public)})
    else:
        click.echo(f"wrote {target}")


def _show_check(path: Path, *, as_json: bool) -> int:
    data = _read(path)
    paths = [] if is_encrypted(data) else [target.path for target in files_of(read_unverified(data, source=str(path)))]
    passing = () if is_envelope(data) else EtcPolicy().passing(paths)
    if as_json:
        flags = {"signed": is_envelope(data), "encrypted": is_encrypted(data)}
        emit_json({"file": path, **flags, "writes": paths, "needs_signature": passing})
    elif is_encrypted(data):
        click.echo(f"{path}: encrypted, so only the host can check it")
    else:
        click.echo(f"{path}: no errors")
        click.echo("".join(f"  writes {name}{_SIGNED_ONLY if name in passing else ''}\n" for name in paths), nl=False)
    return EXIT_DONE


def _read(path: Path) -> bytes:
    """A document that was checked as far as it can be here."""
    data = _bytes(path)
    if not is_encrypted(data):
        read_unverified(data, source=str(path))
    return data


def _bytes(path: Path) -> bytes:
    """All of a file that is not larger than any document."""
    with path.open("rb") as stream:
        data = stream.read(MAX_OFFERED_BYTES + 1)
    if len(data) > MAX_OFFERED_BYTES:
        raise BuildError(f"{path} has more than {MAX_OFFERED_BYTES} bytes, which is the most")
    return data


def _disk(path: Path) -> Path:
    """A disk, or the one in the folder of a build."""
    if not path.is_dir():
        return path
    found = next((path / name for name in DISK_NAMES if (path / name).is_file()), None)
    if found is None:
        raise BuildError(f"there is no disk image in {path}")
    return found


def _uri(text: str) -> KeyUri:
    try:
        return KeyUri.from_text(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--key") from error


def _outcome(*, changed: bool, remove: bool) -> str:
    if remove:
        return "removed" if changed else "there is no document"
    return "written to the boot partition" if changed else "holds this document already"
