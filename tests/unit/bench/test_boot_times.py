from __future__ import annotations

import pytest
from boot_times import read_blame, read_init, read_span, read_startup, split

STARTUP = """\
Startup finished in 1.204s (kernel) + 3.051s (initrd) + 1min 2.540s (userspace) = 1min 6.796s
multi-user.target reached after 9.876s in userspace.
"""
METAL = "Startup finished in 2.5s (firmware) + 820ms (loader) + 1.2s (kernel) + 900us (userspace) = 4.520s"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12.345s", 12.345), ("820ms", 0.82), ("1min 2.5s", 62.5), ("1h 1min 1s", 3661), ("9us", 9e-6)],
)
def test_a_span_is_read_as_seconds(text: str, seconds: float) -> None:
    assert read_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "12", "12 parsecs", "s", "1.s", "-1s", "1s 2"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time span"):
        read_span(text)


def test_the_parts_of_a_startup_are_read() -> None:
    assert read_startup(STARTUP) == pytest.approx({"kernel": 1.204, "initrd": 3.051, "userspace": 62.54})


def test_firmware_and_loader_are_read_where_they_are_told() -> None:
    found = read_startup(METAL)
    assert found == pytest.approx({"firmware": 2.5, "loader": 0.82, "kernel": 1.2, "userspace": 0.0009})


def test_an_unfinished_startup_is_refused() -> None:
    with pytest.raises(ValueError, match="no finished start-up"):
        read_startup("Bootup is not yet finished (org.freedesktop.systemd1.Manager.FinishTimestampMonotonic=0).")


def test_a_startup_without_its_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="does not name the parts"):
        read_startup("Startup finished in 3s = 3s")


def test_devices_are_no_part_of_the_blame() -> None:
    text = "17.3s dev-ttyS0.device\n 2.1s podman-restart.service\n"
    assert read_blame(text) == ["2.1s podman-restart.service"]


def test_the_parts_add_up_to_the_total() -> None:
    startup = {"kernel": 1.0, "initrd": 3.0, "userspace": 60.0}
    parts = split(startup, init_s=1.0, firmware_s=4.0, podman_s=17.5, uptime_s=12.0)
    assert parts == {"firmware": 4.0, "loader": 1.5, "kernel": 1.0, "initrd": 3.0, "userspace": 8.0, "total": 17.5}
    assert sum(value for name, value in parts.items() if name != "total") == parts["total"]


def test_an_initrd_without_systemd_is_no_part_of_the_kernel() -> None:
    parts = split({"kernel": 2.5, "userspace": 2.0}, init_s=1.0, firmware_s=1, podman_s=5, uptime_s=3)
    assert (parts["kernel"], parts["initrd"], parts["userspace"]) == (1.0, 1.5, 0.5)


def test_the_start_of_the_initrd_is_read_from_the_kernels_log() -> None:
    assert read_init("[    1.8] x\n[    2.595333] Run /init as init process\n[    2.6] y\n") == 2.595333


def test_a_log_without_the_start_of_the_initrd_is_refused() -> None:
    with pytest.raises(ValueError, match="when the initrd began"):
        read_init("[    2.595333] Run /sbin/init as init process\n")


def test_clocks_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="loader would have taken less than no time"):
        split({"kernel": 1.0, "userspace": 2.0}, init_s=1, firmware_s=4, podman_s=5, uptime_s=3)
