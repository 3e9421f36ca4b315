"""`containers:` of an image definition: the container engine of a host, and which images it may run.

Pure: values, and podman's configuration made from them (containers-policy.json(5), containers-registries.d(5)).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Annotated

from bedrock import strict
from bedrock.errors import Problem
from updater.agent.health_settings import Engine

POLICY_FILE = "/etc/containers/policy.json"
REGISTRIES_FILE = "/etc/containers/registries.d/10-image.yaml"
_KEYS_FOLDER = "/etc/containers/keys"
_PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----"
Scope = Annotated[
    str,
    strict.Pattern(
        r"(\*\.)?[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9._-]+)*(:[A-Za-z0-9_.-]{1,128})?",
        "a registry, a repository or an image such as registry.example.com/team",
    ),
]


class PolicyDefault(Enum):
    """What happens to images that no line names."""

    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True)
class SignedScope:
    """Images that must be signed.

    Attributes:
        scope: The registry, repository or image; the longest scope that matches an image counts.
        key: The public key in PEM form, a file in the definition's folder.
    """

    scope: Scope
    key: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.key)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"key {self.key!r} must be a path inside the definition's folder")

    @property
    def key_path(self) -> str:
        """Where the key is in the image; two scopes may have one each of the same name."""
        scope = self.scope.replace("/", "_").replace(":", "_").replace("*", "_")
        return f"{_KEYS_FOLDER}/{scope}.pub"


@dataclass(frozen=True)
class SignaturePolicy:
    """Which images are pulled.

    Attributes:
        default: What happens to images that no line below names.
        signed: Images that must be signed by a key.
        accept: Images that need no signature.
    """

    default: PolicyDefault = PolicyDefault.ACCEPT
    signed: tuple[SignedScope, ...] = ()
    accept: tuple[Scope, ...] = ()

    def __post_init__(self) -> None:
        scopes = [*(each.scope for each in self.signed), *self.accept]
        if twice := sorted({scope for scope in scopes if scopes.count(scope) > 1}):
            raise ValueError(f"given twice in signed and accept: {', '.join(twice)}")

    def policy_json(self) -> bytes:
        """Podman's `policy.json`.

        A signature must name the image's repository; which tag it was made for does not count, for cosign names none.
        """
        scopes: dict[str, list[dict[str, object]]] = {
            each.scope: [
                {
                    "type": "sigstoreSigned",
                    "keyPath": each.key_path,
                    "signedIdentity": {"type": "matchRepository"},
                }
            ]
            for each in self.signed
        }
        scopes |= {scope: [{"type": "insecureAcceptAnything"}] for scope in self.accept}
        default = {PolicyDefault.ACCEPT: "insecureAcceptAnything", PolicyDefault.REJECT: "reject"}[self.default]
        document = {"default": [{"type": default}], "transports": {"docker": scopes}}
        return json.dumps(document, indent=4, sort_keys=True).encode() + b"\n"

    def registries_yaml(self) -> bytes:
        """Podman's word on where signatures are: in the registry that is asked, a mirror too, next to the image."""
        return b"default-docker:\n  use-sigstore-attachments: true\n"


@dataclass(frozen=True)
class Containers:
    """How a host runs containers.

    Attributes:
        policy: Which images it pulls; without one Debian's own policy applies, which accepts every image.
        engine: The container engine.
    """

    policy: SignaturePolicy | None = None
    engine: Engine = Engine.PODMAN


def engine_problems(containers: Containers, checked: Engine | None) -> Iterator[Problem]:
    """What has no effect with the engine of an image; `checked` is `updater.health.engine`, None when left out."""
    engine = containers.engine
    if containers.policy is not None and engine is not Engine.PODMAN:
        yield Problem(
            "containers.policy",
            f"it is read by podman alone, and the engine is {engine.value}: write engine: podman, or leave it out",
        )
    if checked not in {None, Engine.NONE, engine}:
        yield Problem(
            "updater.health.engine",
            f"is {checked.value}, the image's engine {engine.value}: leave it out, or write none to check no engine",
        )


def key_problems(containers: Containers, folder: Path) -> Iterator[Problem]:
    """What is wrong with the keys that a definition in `folder` names."""
    for index, each in enumerate(containers.policy.signed if containers.policy else ()):
        place, path = f"containers.policy.signed[{index}].key", folder / each.key
        if not path.is_file():
            yield Problem(place, f"{path} is not a file")
        elif not path.read_bytes().lstrip().startswith(_PUBLIC_KEY.encode()):
            yield Problem(place, f"{path} does not begin with {_PUBLIC_KEY}")
