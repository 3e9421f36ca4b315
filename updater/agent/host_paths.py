"""Where everything of a host is, below `/` or below another folder that holds the same files (`updater --root`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from updater.agent.config import CREDENTIAL, Sources


@dataclass(frozen=True)
class HostPaths:
    """The files of the host whose root folder is `root`."""

    root: Path = Path("/")

    @property
    def is_this_host(self) -> bool:
        """Whether this is the machine that the program runs on."""
        return self.root == Path("/")

    @property
    def root_of_trust(self) -> Path:
        """The root metadata that are baked into the image."""
        return self.root / "usr/lib/twinhull/root.json"

    @property
    def state(self) -> Path:
        """What is remembered from boot to boot."""
        return self.root / "var/lib/twinhull"

    @property
    def spool(self) -> Path:
        """Where an update is kept until all of it has arrived: large, and not needed when it is lost."""
        return self.root / "var/cache/twinhull"

    @property
    def runtime(self) -> Path:
        """What is gone after a reboot."""
        return self.root / "run/twinhull"

    @property
    def blessed(self) -> Path:
        """Says that the running slot is proven; units look for it."""
        return self.runtime / "blessed"

    @property
    def judged(self) -> Path:
        """Says that the health checks of this boot have ended, well or not."""
        return self.runtime / "judged"

    @property
    def reboot_notes(self) -> Path:
        """Who asked to put off the next reboot."""
        return self.runtime / "reboot.json"

    @property
    def network_socket(self) -> Path:
        """Where systemd starts the network side."""
        return self.root / "run/twinhull-transfer.socket"

    @property
    def boot_folder(self) -> Path:
        """The files of the boot partition, on a host that is a folder: there is nothing to mount."""
        return self.root / "boot"

    def settings(self, credentials_directory: str | None) -> Sources:
        """The layers of the settings; a unit's own credentials folder comes before the system's."""
        usual = Sources()

        def below(path: Path) -> Path:
            return self.root / path.relative_to("/")

        credentials = list(map(below, usual.credentials))
        if credentials_directory and self.is_this_host:
            credentials.insert(0, Path(credentials_directory) / CREDENTIAL)
        return Sources(
            baked=below(usual.baked),
            host=below(usual.host),
            drop_ins=below(usual.drop_ins),
            credentials=tuple(credentials),
        )
