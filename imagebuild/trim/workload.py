"""The commands that the host runs so that it touches what it needs: the engine, the agent, an operator's commands.

Only shell text for the guest.  Every step must succeed: a rehearsal that did less than it claims would propose to drop
what it never tried.
"""

from __future__ import annotations

from dataclasses import dataclass

WORKLOAD_STAGES = ("before-update", "after-update")
_WEB = "trim-web"
_PORT = 8080
_UNIT = "trim-unit"
_HELLO = "hello from a volume"


@dataclass(frozen=True)
class WorkloadStep:
    """A shell script for the guest, and its name."""

    name: str
    script: str


def engine(reference: str) -> WorkloadStep:
    """Networks, names, volumes, published ports and a Quadlet, with containers of the image called `reference`."""
    quadlet = "\\n".join(
        (
            "[Container]",
            f"Image={reference}",
            f"ContainerName={_UNIT}",
            "Pull=never",
            "Exec=sleep 100000",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        )
    )
    script = f"""
        podman network create trim >/dev/null
        podman volume create trim >/dev/null
        podman run --detach --name {_WEB} --network trim --publish {_PORT}:80 --volume trim:/srv --memory 64m \\
            --read-only --cap-drop all --cap-add net_bind_service {reference} busybox httpd -f -p 80 -h /srv
        podman exec {_WEB} sh -c 'echo {_HELLO} >/srv/hello'
        podman run --rm --network trim {reference} busybox wget -q -O - http://{_WEB}/hello | grep '{_HELLO}'
        podman run --rm --network host {reference} busybox wget -q -O - http://127.0.0.1:{_PORT}/hello | grep '{_HELLO}'
        echo in | podman run --rm --interactive --user 1000:1000 {reference} cat
        podman ps --all
        podman images
        podman info
        podman inspect {_WEB}
        podman logs {_WEB}
        podman stats --no-stream
        podman cp {_WEB}:/srv/hello /run/trim-hello
        podman stop --time 1 {_WEB}
        podman start {_WEB}
        podman rm --force --time 1 {_WEB}
        podman volume rm trim
        podman network rm trim
        mkdir -p /etc/containers/systemd
        printf '{quadlet}' >/etc/containers/systemd/{_UNIT}.container
        systemctl daemon-reload
        systemctl start {_UNIT}.service
        podman exec {_UNIT} uname -r
    """
    return WorkloadStep("containers, networks, volumes, a Quadlet", _whole(script))


def quadlet_runs() -> WorkloadStep:
    """The Quadlet's container came up by itself with the boot."""
    script = f"""
        systemctl is-active {_UNIT}.service
        podman exec {_UNIT} uname -r
        systemctl restart {_UNIT}.service
    """
    return WorkloadStep("the Quadlet after the update", _whole(script))


def agent() -> WorkloadStep:
    """An operator's commands to the agent."""
    script = """
        updater status
        updater check || [ $? -eq 4 ]
        updater etc-diff
        updater history
        updater health
    """
    return WorkloadStep("the agent's commands", _whole(script))


def operator() -> WorkloadStep:
    """What an operator looks at first; a missing program is not an error."""
    script = """
        has() { command -v "$1" >/dev/null; }
        systemctl status --no-pager >/dev/null || [ $? -eq 3 ]
        systemctl list-timers --no-pager
        journalctl --boot --lines 20 --no-pager
        if has networkctl; then networkctl --no-pager status; fi
        if has resolvectl; then resolvectl --no-pager status; fi
        if has timedatectl; then timedatectl --no-pager; fi
        if has ip; then ip address; ip route; fi
        if has nft; then nft list ruleset; fi
        if has ss; then ss -tln; fi
        df -h
        findmnt
        lsblk
        dmesg | tail -n 5
    """
    return WorkloadStep("an operator's first looks", _whole(script))


def own(text: str, stage: str) -> WorkloadStep:
    """The user's own script; `TWINHULL_STAGE` tells it the stage of the rehearsal."""
    return WorkloadStep(f"the workload, {stage}", f"TWINHULL_STAGE={stage}\nexport TWINHULL_STAGE\n{text}")


def _whole(script: str) -> str:
    lines = (line.removeprefix("        ") for line in script.strip("\n").splitlines())
    return "set -eu\n" + "\n".join(lines)
