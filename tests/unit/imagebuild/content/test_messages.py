"""What systemd 257, podman 5.4 and nftables 1.1 really print, word by word."""

from __future__ import annotations

import pytest

from imagebuild.content.messages import (
    about_networks,
    about_quadlets,
    about_units,
    located,
    setting_lines,
    split_generated,
)
from imagebuild.content.sources import DefinitionText

SERVICE = "/usr/lib/systemd/system/bad.service"
BAD = DefinitionText(
    SERVICE,
    "units[0].content (bad.service)",
    "[Unit]\nRequires=nowhere.service\n[Service]\nExecStrat=/usr/bin/true\nExecStart=/usr/bin/none x\n[Instal]\n",
)
WEB = DefinitionText(
    "/usr/share/containers/systemd/web.container",
    "units[1].content (web.container)",
    "[Container]\nImgae=registry.test/web\n[Service]\nRestrat=always\n[Instal]\nWantedBy=multi-user.target\n",
)


def units(output: str) -> list[str]:
    return list(about_units(output, {SERVICE: BAD}, {}))


def test_unknown_keys_and_sections_of_units_are_named_with_their_line() -> None:
    output = f"""\
{SERVICE}:4: Unknown key 'ExecStrat' in section [Service], ignoring.
{SERVICE}:6: Unknown section 'Instal'. Ignoring.
{SERVICE}:9: Failed to parse Restart=maybe, ignoring: Invalid argument
"""
    assert units(output) == [
        "units[0].content (bad.service), line 4: Unknown key 'ExecStrat' in section [Service]",
        "units[0].content (bad.service), line 6: Unknown section 'Instal'",
        "units[0].content (bad.service), line 9: Failed to parse Restart=maybe, ignoring: Invalid argument",
    ]


def test_a_program_that_the_image_lacks_is_named_with_the_line_that_wants_it() -> None:
    assert units("bad.service: Command /usr/bin/none is not executable: No such file or directory") == [
        "units[0].content (bad.service), line 5: the image has no program /usr/bin/none"
    ]


def test_a_required_unit_that_the_image_lacks_is_named() -> None:
    output = "bad.service: Failed to create bad.service/start: Unit nowhere.service not found."
    assert units(output) == [
        "units[0].content (bad.service), line 2: it requires nowhere.service, which the image does not have"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "bad.service: Command /var/lib/app/run is not executable: No such file or directory",
        "bad.service: Command /opt/app/run is not executable: No such file or directory",
        "bad.service: Failed to create bad.service/start: Unit dev-sdz.device not found.",
        f"{SERVICE}:4: Standard output type syslog is obsolete, automatically updating to journal.",
        "other.service: Command /usr/bin/none is not executable: No such file or directory",
        "/usr/lib/systemd/system/other.service:5: Unknown key 'X' in section [Service], ignoring.",
        "Unit bad.service has a drop-in",
        "",
    ],
)
def test_advice_what_a_host_gets_later_and_the_files_of_others_are_no_problem(line: str) -> None:
    assert units(line) == []


def test_a_unit_that_does_nothing_is_a_problem() -> None:
    output = "bad.service: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing."
    assert units(output) == [
        "units[0].content (bad.service): Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing"
    ]


def test_a_unit_that_was_not_looked_at_is_a_problem() -> None:
    assert units("Unit bad.service not found.") == ["units[0].content (bad.service): systemd does not find the unit"]


QUADLET = """\
quadlet-generator[7]: Loading source unit file /usr/share/containers/systemd/web.container
quadlet-generator[7]: Warning: web.container specifies the image "x" which not a fully qualified image name. This is not
quadlet-generator[7]: converting "web.container": unsupported key 'Imgae' in group 'Container' in /usr/share/containers/systemd/web.container
"""  # noqa: E501 - podman's line


def test_an_unknown_key_of_a_quadlet_is_named_with_its_line() -> None:
    assert list(about_quadlets(QUADLET, {WEB.path: WEB}, failed=True)) == [
        "units[1].content (web.container), line 2: unsupported key 'Imgae' in group 'Container'"
    ]


def test_a_generator_that_fails_with_other_words_is_not_taken_for_success() -> None:
    assert list(about_quadlets("quadlet-generator[7]: out of memory", {WEB.path: WEB}, failed=True)) == [
        "Quadlets: quadlet-generator[7]: out of memory"
    ]
    assert list(about_quadlets("quadlet-generator[7]: Loading source unit file x", {WEB.path: WEB}, failed=False)) == []


def test_what_is_wrong_in_a_generated_unit_is_named_by_the_quadlets_line() -> None:
    text = "[X-Container]\nImage=x\n\n[Service]\nRestrat=always\nExecStart=/usr/bin/podman run\n\n[Instal]\n"
    generated = split_generated(f"---web.service---\n{text}")
    assert generated == {"web.service": text}
    path = "/run/systemd/system/web.service"
    output = f"{path}:5: Unknown key 'Restrat' in section [Service], ignoring.\n"
    output += f"{path}:8: Unknown section 'Instal'. Ignoring.\n"
    assert list(about_units(output, {path: WEB}, {path: text})) == [
        "units[1].content (web.container), line 4: Unknown key 'Restrat' in section [Service]",
        "units[1].content (web.container), line 5: Unknown section 'Instal'",
    ]


def test_several_generated_units_are_told_apart() -> None:
    assert split_generated("---a.service---\nA\n---b-volume.service---\nB\n") == {
        "a.service": "A\n",
        "b-volume.service": "B\n",
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "/etc/x:1: Failed to resolve user 'nouser': No such process",
            "x, line 1: Failed to resolve user 'nouser': No such process",
        ),
        ("/etc/x:1 Invalid key 'SUBSYTEM'.", "x, line 1: Invalid key 'SUBSYTEM'"),
        ("/etc/x:3:7-11: Error: syntax error, unexpected string", "x, line 3: Error: syntax error, unexpected string"),
        ("/etc/x:2: Missing action and name columns.", "x, line 2: Missing action and name columns"),
    ],
)
def test_lines_are_read_as_each_program_writes_them(line: str, problem: str) -> None:
    assert list(located(line, {"/etc/x": DefinitionText("/etc/x", "x", "")})) == [problem]


def test_network_files_that_are_ignored_as_a_whole_are_a_problem() -> None:
    network = DefinitionText("/etc/systemd/network/10-x.network", "net", "")
    device = DefinitionText("/etc/systemd/network/20-x.netdev", "dev", "")
    output = f"""\
{device.path}:3: Unknown key 'Knd' in section [NetDev], ignoring.
NetDev has no Kind= configured in "{device.path}", ignoring.
{network.path}: No valid settings found in the [Match] section, ignoring file. To match all interfaces, add Name=*.
sysctl monitor disabled, as BPF support is not available.
"""
    found = list(about_networks(output, {network.path: network, device.path: device}))
    assert found[0] == "dev, line 3: Unknown key 'Knd' in section [NetDev]"
    assert found[1].startswith("dev: NetDev has no Kind= configured in")
    assert found[2].startswith("net: No valid settings found in the [Match] section")
    assert len(found) == 3


def test_sysctl_lines_are_settings_exclusions_comments_or_wrong() -> None:
    text = "# x\n; y\nnet.ipv4.ip_forward = 1\n-net.ipv4.conf.*.rp_filter=2\n-kernel.x.y\nnet.ipv4.ip_forward\n = 4\n"
    found = list(setting_lines(DefinitionText("/etc/sysctl.d/x.conf", "x", text)))
    assert [(number, name) for number, name, _ in found] == [
        (3, "net.ipv4.ip_forward"),
        (4, "net.ipv4.conf.*.rp_filter"),
        (5, "kernel.x.y"),
        (6, None),
        (7, None),
    ]
