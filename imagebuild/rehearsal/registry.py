"""A real container registry on the loopback, with one small image in it, and room for others.

The registry is Debian's docker-registry, the image Debian's static busybox; both come from the tools tree.
Formats: OCI Image Specification 1.1 (image-spec, `manifest.md`, `config.md`) and OCI Distribution Specification 1.1
(`spec.md`, "Pushing blobs").
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import urllib3

from bedrock.digest import bytes_sha256
from bedrock.process import Running
from imagebuild.errors import BuildError, VmError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.vm.machine import free_port
from imagebuild.vm.waiting import wait_for

REPOSITORY = "twinhull/busybox"
TAG = "latest"
_TIMEOUT_S = 20.0
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_APPLETS = ("sh", "echo", "cat", "uname", "sleep")


@dataclass(frozen=True)
class RunningRegistry:
    """A running registry."""

    port: int

    def reference(self, host: str, repository: str = REPOSITORY) -> str:
        """An image's name as podman takes it, for a client that reaches the registry as `host`."""
        return f"{host}:{self.port}/{repository}:{TAG}"

    def push(self, repository: str, layers: Sequence[bytes]) -> None:
        """Store an image of these layers, each a tar archive; the registry must not be a private one.

        Raises:
            BuildError: The registry refused it.
        """
        _push(f"http://127.0.0.1:{self.port}", {}, repository, layers)


@dataclass(frozen=True)
class Guard:
    """Who may use a private registry; `line` is the user's line of an htpasswd file, with a bcrypt hash."""

    username: str
    password: str
    line: str


@contextmanager
def run_registry(tools: ToolsTree, folder: Path, guard: Guard | None = None) -> Iterator[RunningRegistry]:
    """Run the registry, with the image pushed, for as long as the context lasts (writes below `folder`).

    Args:
        tools: Brings the registry, and the program in the image.
        folder: Its storage and its log.
        guard: Makes it a private one.

    Raises:
        VmError: The registry did not start.
        BuildError: It refused the image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    config: dict[str, object] = {"version": "0.1", "storage": storage, "log": {"level": "warn"}}
    config["http"] = {"addr": f"127.0.0.1:{port}"}
    headers = {}
    if guard is not None:
        (folder / "htpasswd").write_text(f"{guard.line}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        headers = urllib3.make_headers(basic_auth=f"{guard.username}:{guard.password}")
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "registry.log").open("wb") as log:
        words: list[str | Path] = ["docker-registry", "serve", folder / "config.yml"]
        process = tools.start(words, Access(write=(folder,), network=True), stdout=log)
        try:
            base = f"http://127.0.0.1:{port}"
            _wait(base, headers, process, folder / "registry.log")
            _push(base, headers, REPOSITORY, [image_layer((tools.root / "usr/bin/busybox").read_bytes())])
            yield RunningRegistry(port)
        finally:
            process.terminate()
            process.wait(_TIMEOUT_S)


def image_layer(busybox: bytes) -> bytes:
    """A file system of one program and its names, as a tar archive."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        archive.addfile(program, io.BytesIO(busybox))
        for name in _APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return raw.getvalue()


def _push(base: str, headers: Mapping[str, str], repository: str, layers: Sequence[bytes]) -> None:
    packed = [gzip.compress(tar, compresslevel=1, mtime=0) for tar in layers]
    rootfs = {"type": "layers", "diff_ids": [_digest(tar) for tar in layers]}
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}, "rootfs": rootfs}
    ).encode()
    for blob in (*packed, config):
        _push_blob(base, headers, repository, blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, "digest": _digest(config), "size": len(config)},
        "layers": [{"mediaType": _LAYER_TYPE, "digest": _digest(blob), "size": len(blob)} for blob in packed],
    }
    headers = {**headers, "Content-Type": _MANIFEST_TYPE}
    _ask("PUT", f"{base}/v2/{repository}/manifests/{TAG}", json.dumps(manifest).encode(), headers)


def _push_blob(base: str, headers: Mapping[str, str], repository: str, blob: bytes) -> None:
    headers = {**headers, "Content-Type": "application/octet-stream"}
    opened = _ask("POST", f"{base}/v2/{repository}/blobs/uploads/", b"", headers)
    place = urljoin(base, opened.headers["Location"])
    joint = "&" if "?" in place else "?"
    _ask("PUT", f"{place}{joint}digest={_digest(blob)}", blob, headers)


def _ask(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
    answer = urllib3.request(method, url, body=body, headers=headers, timeout=_TIMEOUT_S, retries=0)
    if answer.status not in (201, 202):
        raise BuildError(f"the registry answered {answer.status} to {method} {url}: {answer.data[:200]!r}")
    return answer


def _wait(base: str, headers: Mapping[str, str], process: Running, log: Path) -> None:
    def look() -> bool | None:
        if process.poll() is not None:
            raise VmError(f"the registry ended at once; see {log}")
        try:
            answer = urllib3.request("GET", f"{base}/v2/", headers=headers, timeout=1, retries=0)
        except urllib3.exceptions.HTTPError:
            return None
        return answer.status == 200 or None  # noqa: PLR2004 - HTTP OK

    wait_for(look, what=f"the registry (its log is {log})", timeout_s=_TIMEOUT_S)


def _digest(data: bytes) -> str:
    return f"sha256:{bytes_sha256(data)}"
