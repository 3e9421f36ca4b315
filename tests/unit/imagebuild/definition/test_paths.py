from __future__ import annotations

import pytest

from imagebuild.definition.paths import FilePath, tmpfiles_word


@pytest.mark.parametrize(
    ("written", "on_host", "in_image"),
    [
        ("/etc/motd", "/etc/motd", "/etc/motd"),
        ("/bin/tool", "/usr/bin/tool", "/usr/bin/tool"),
        ("/lib/x.so", "/usr/lib/x.so", "/usr/lib/x.so"),
        ("/var/lib/app/a", "/var/lib/app/a", "/usr/share/factory/var/lib/app/a"),
        ("/opt/app/a", "/var/opt/app/a", "/usr/share/factory/var/opt/app/a"),
        ("/root/.profile", "/var/roothome/.profile", "/usr/share/factory/var/roothome/.profile"),
        ("//etc/motd", "/etc/motd", "/etc/motd"),
        ("/optional/a", "/optional/a", "/optional/a"),
    ],
)
def test_a_file_is_put_where_a_host_will_find_it(written: str, on_host: str, in_image: str) -> None:
    path = FilePath.from_text(written)
    assert (path.on_host, path.in_image) == (on_host, in_image)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("/run/x", "tmpfiles.d"),
        ("/var/run/x", "tmpfiles.d"),
        ("/tmp/x", "tmpfiles.d"),  # noqa: S108 - a name
        ("/var/tmp/x", "/var/lib"),  # noqa: S108 - a name
        ("/proc/sys/x", "sysctl"),
        ("/sys/x", "udev"),
        ("/dev/x", "kernel"),
        ("/boot/x", "boot partition"),
        ("/efi/x", "boot loader"),
    ],
)
def test_a_path_that_no_image_can_hold_is_refused_with_a_hint(written: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        FilePath.from_text(written)


@pytest.mark.parametrize(
    ("path", "word"),
    [("/var/a", "/var/a"), ("/var/a b", '"/var/a b"'), ("/var/5%", "/var/5%%"), ('/var/"', '"/var/\\""')],
)
def test_a_path_in_a_tmpfiles_line_means_itself(path: str, word: str) -> None:
    assert tmpfiles_word(path) == word
