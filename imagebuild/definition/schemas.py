"""The JSON Schemas of what people write: `image.yaml`, provisioning documents, the settings that `updater` reads.

They are made here and not in the agent, so that no host carries the code that makes them.
"""

from __future__ import annotations

from typing import Any

from bedrock.schema import json_schema
from imagebuild.definition.image import ImageDefinition
from updater.agent.config import Config
from updater.provision.document import Provision


def image_schema() -> dict[str, Any]:
    """The schema of `image.yaml`."""
    return json_schema(ImageDefinition, title="An image definition of Twinhull (image.yaml)")


def settings_schema() -> dict[str, Any]:
    """The schema of one layer of `updater.yaml`."""
    return json_schema(Config, title="Settings of Twinhull's updater (updater.yaml)")


def provision_schema() -> dict[str, Any]:
    """The schema of a host's provisioning document."""
    return json_schema(Provision, title="A provisioning document of Twinhull")
