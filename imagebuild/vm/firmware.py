"""The firmware's variables: made once per machine, with only the image's own certificates enrolled."""

from __future__ import annotations

from pathlib import Path

from bedrock.errors import ProcessError
from bedrock.persist import write_atomic
from imagebuild.errors import VmError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.vm.arguments import FIRMWARE_FOLDER, FIRMWARE_VARIABLES
from imagebuild.vm.config import BootCertificates
from keys.secureboot.siglist import OWNER as SIGNATURE_OWNER

# Who put the keys in; the same as in additions to db and dbx.
OWNER = str(SIGNATURE_OWNER)
_TIMEOUT_S = 60


def ensure_nvram(path: Path, tools: ToolsTree, certificates: BootCertificates | None) -> None:
    """Write the variables file of a new machine; an existing file is not changed.

    Raises:
        VmError: A certificate is missing or invalid.
    """
    if path.exists():
        return
    template = FIRMWARE_FOLDER / FIRMWARE_VARIABLES
    if certificates is None:
        write_atomic(path, (tools.root / template.relative_to("/")).read_bytes(), mode=0o600)
        return
    partial = path.with_suffix(".new")
    words: list[str | Path] = ["virt-fw-vars", "--input", template, "--output", partial]
    words += ["--set-pk", OWNER, certificates.platform_key.resolve()]
    words += ["--add-kek", OWNER, certificates.key_exchange_key.resolve()]
    words += ["--add-db", OWNER, certificates.signature_database.resolve(), "--secure-boot"]
    try:
        tools.run(words, _access(path.parent, certificates), timeout_s=_TIMEOUT_S)
    except ProcessError as error:
        raise VmError(f"the Secure Boot certificates could not be enrolled: {error}") from error
    write_atomic(path, partial.read_bytes(), mode=0o600)
    partial.unlink()


def _access(folder: Path, certificates: BootCertificates) -> Access:
    paths = (certificates.platform_key, certificates.key_exchange_key, certificates.signature_database)
    for path in paths:
        if not path.is_file():
            raise VmError(f"there is no certificate at {path}").with_hint(
                "name the folder of the image's keys with --keys, or switch Secure Boot off with --no-secure-boot"
            )
    return Access(read=tuple(path.resolve() for path in paths), write=(folder.resolve(),))
