from __future__ import annotations

import pytest

from imagebuild.content.accounts import Ids, changed_ids, derived_id, settle_ids, sysusers_text
from imagebuild.definition.host import Group, ImageUser
from imagebuild.errors import BuildError

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
redis:x:100:102::/var/lib/redis:/usr/sbin/nologin
statd:x:101:65534::/var/lib/nfs:/usr/sbin/nologin
me:x:1500:1500::/home/me:/bin/bash
"""
GROUP = """\
root:x:0:
adm:x:4:redis
users:x:100:
kvm:x:101:
redis:x:102:
nogroup:x:65534:
me:x:1500:
"""
# Users and groups of packages that people install on servers.
WELL_KNOWN = """
systemd-journal systemd-network systemd-timesync messagebus input sgx clock kvm render systemd-resolve _ssh
sshd redis _rpc statd docker ssl-cert _chrony tcpdump postfix postdrop crontab uuidd tss rdma polkitd mysql
postgres systemd-coredump systemd-oom netdev bluetooth avahi dnsmasq libvirt-qemu ntpsec syslog unbound bind
prometheus grafana haproxy nginx memcache rabbitmq mongodb zabbix munin Debian-snmp Debian-exim debian-tor
_flatpak gnats sssd freerad frr frrvty ceph etcd influxdb telegraf _lldpd lxd incus incus-admin clamav
opendkim dovecot dovenull openvpn plocate pcap wireshark i2c gpio spi mosquitto openldap
"""


def test_an_id_does_not_depend_on_who_else_is_there() -> None:
    alone = settle_ids("redis:x:105:107::/:/bin/false\n", "redis:x:107:\n", (), ())
    settled = settle_ids(PASSWD, GROUP, (), ())
    assert settled.ids.users["redis"] == alone.ids.users["redis"] == derived_id("redis")


def test_a_user_and_its_group_have_one_number_and_files_follow() -> None:
    settled = settle_ids(PASSWD, GROUP, (), ())
    number = derived_id("redis")
    assert f"redis:x:{number}:{number}::/var/lib/redis:" in settled.passwd
    assert f"redis:x:{number}:\n" in settled.group
    assert settled.users == {100: number, 101: derived_id("statd")}
    assert settled.groups == {101: derived_id("kvm"), 102: number}


def test_numbers_that_are_the_same_on_every_debian_system_stay() -> None:
    settled = settle_ids(PASSWD, GROUP, (), ())
    for line in ("root:x:0:0:", "nobody:x:65534:65534:", "me:x:1500:1500:"):
        assert line in settled.passwd
    assert "users:x:100:\n" in settled.group
    assert f"statd:x:{derived_id('statd')}:65534:" in settled.passwd


def test_the_definition_sets_an_id_also_of_a_packages_user() -> None:
    settled = settle_ids(PASSWD, GROUP, (ImageUser("redis", id=345),), (Group("kvm", id=346),))
    assert "redis:x:345:345:" in settled.passwd
    assert "kvm:x:346:\n" in settled.group


def test_two_names_with_one_number_end_the_build_with_the_line_that_settles_it() -> None:
    number = derived_id("redis")
    with pytest.raises(BuildError) as caught:
        settle_ids(PASSWD, GROUP, (ImageUser("statd", id=number),), ())
    message = str(caught.value)
    assert f"redis and statd both get the id {number}" in message
    assert f"write users: [{{name: redis, id: {number + 1}}}]" in message


def test_the_line_that_settles_it_does_settle_it() -> None:
    number = derived_id("redis")
    settle_ids(PASSWD, GROUP, (ImageUser("statd", id=number), ImageUser("redis", id=number + 1)), ())


def test_a_number_that_debian_fixes_cannot_be_set() -> None:
    with pytest.raises(BuildError, match="nobody has the id 65534 on every Debian system"):
        settle_ids(PASSWD, GROUP, (ImageUser("nobody", id=300),), ())


def test_well_known_packages_never_meet() -> None:
    names = set(WELL_KNOWN.split())
    assert len({derived_id(name) for name in names}) == len(names)
    assert all(200 <= derived_id(name) <= 989 for name in names)


def test_everybody_of_the_image_is_in_one_sysusers_file() -> None:
    settled = settle_ids(PASSWD, GROUP, (), ())
    number = derived_id("redis")
    shadow = "root:*:1::::::\nstatd:!*:1:::::1:\n"
    lines = sysusers_text(settled.passwd, settled.group, shadow).splitlines()
    assert f'u redis {number}:{number} "" /var/lib/redis /usr/sbin/nologin' in lines
    assert f'u! statd {derived_id("statd")}:65534 "" /var/lib/nfs /usr/sbin/nologin' in lines
    assert f"g redis {number}" in lines
    assert "m redis adm" in lines
    # Groups first: users name them.
    assert lines.index(f"g redis {number}") < lines.index("g nogroup 65534") < lines.index("m redis adm")


def test_a_number_that_changed_since_the_earlier_version_is_named_with_the_line_that_keeps_it() -> None:
    before = Ids({"redis": 345, "gone": 1}, {"redis": 345, "kvm": 7})
    now = Ids({"redis": 400, "new": 2}, {"redis": 400, "kvm": 8})
    assert changed_ids(before, now, "1.0.0") == (
        "redis has the id 400, and had 345 in 1.0.0: write users: [{name: redis, id: 345}]",
        "kvm has the id 8, and had 7 in 1.0.0: write groups: [{name: kvm, id: 7}]",
    )
    assert changed_ids(now, now, "1.0.0") == ()
