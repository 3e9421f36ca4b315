"""The parts of a boot, from systemd-analyze, the kernel's log and two clocks: the host's and the guest's.

In a virtual machine systemd-boot leaves no times of firmware and loader, because the processor's counter is not to be
trusted there.  So those two are taken from the host's clock: the firmware ends when it says on the console which entry
it starts, and the guest's own clock, which begins with the kernel, tells when the loader ended.  An initrd without
systemd counts as the kernel for systemd-analyze, so where it begins is read from the kernel's log, for any initrd.
Pure.
"""

from __future__ import annotations

import re

_INIT = re.compile(r"^\[ *(\d+\.\d+)\] Run /init as init process$", re.MULTILINE)
_PART = re.compile(r"((?:\d+(?:\.\d+)?(?:d|h|min|ms|us|s)\s*)+)\((\w+)\)")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(d|h|min|ms|us|s)")
_SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def read_span(text: str) -> float:
    """Seconds of a time span as systemd writes it, such as `1min 2.345s`.

    Raises:
        ValueError: It is none.
    """
    words = text.split()
    found = [_SPAN.fullmatch(word) for word in words]
    if not words or None in found:
        raise ValueError(f"{text!r} is no time span")
    return sum(float(match[1]) * _SECONDS[match[2]] for match in found if match is not None)


def read_startup(text: str) -> dict[str, float]:
    """Seconds per part from `systemd-analyze time`.

    Raises:
        ValueError: It does not say that the start-up finished, or lacks the kernel's or the userspace's part.
    """
    line = next((line for line in text.splitlines() if line.startswith("Startup finished in ")), None)
    if line is None:
        raise ValueError(f"systemd-analyze names no finished start-up: {text!r}")
    parts = {match[2]: read_span(match[1]) for match in _PART.finditer(line)}
    if not {"kernel", "userspace"} <= parts.keys():
        raise ValueError(f"systemd-analyze does not name the parts of a start-up: {line!r}")
    return parts


def read_init(text: str) -> float:
    """Seconds from the kernel's start until it started the initrd's first program, from the kernel's log (`dmesg`).

    Raises:
        ValueError: The log does not say.
    """
    match = _INIT.search(text)
    if match is None:
        raise ValueError("the kernel's log does not say when the initrd began")
    return float(match[1])


def read_blame(text: str) -> list[str]:
    """The lines of `systemd-analyze blame`, but for devices: those are counted from the start and start nothing."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.endswith(".device")]


def split(
    startup: dict[str, float], *, init_s: float, firmware_s: float, podman_s: float, uptime_s: float
) -> dict[str, float]:
    """Seconds per part until podman answered, and `total`.

    Args:
        startup: What systemd-analyze says (`read_startup`).
        init_s: From the kernel's start until it started the initrd's first program, by the guest's clock.
        firmware_s: From power on until the firmware started the loader, by the host's clock.
        podman_s: From power on until podman answered, by the host's clock.
        uptime_s: From the kernel's start until podman answered, by the guest's clock.

    Raises:
        ValueError: The clocks contradict each other.
    """
    switched_s = startup["kernel"] + startup.get("initrd", 0.0)
    parts = {
        "firmware": firmware_s,
        "loader": podman_s - uptime_s - firmware_s,
        "kernel": init_s,
        "initrd": switched_s - init_s,
        "userspace": uptime_s - switched_s,
    }
    if wrong := [name for name, value in parts.items() if value < 0]:
        raise ValueError(f"the clocks contradict each other: {', '.join(wrong)} would have taken less than no time")
    return {**{name: round(value, 3) for name, value in parts.items()}, "total": round(podman_s, 3)}
