"""What every image with an SSH server gets, whatever brought it: host keys of each host's own, and no other socket.

Host keys are made on the host at the first boot, kept in `/var`, and the same after every update.

Debian makes them when the package is installed, here during the build: every host would have the same keys, and so
would everybody who has the image.  They are removed, and units make new ones where they are missing.
Pure.
"""

from __future__ import annotations

SERVER = "/usr/sbin/sshd"
# systemd would let the server listen on sockets of its own too (AF_VSOCK), and complains at each boot of a machine
# whose hypervisor offers none.
LINKS = {"/etc/systemd/system-generators/systemd-ssh-generator": "/dev/null"}
KINDS = ("ed25519", "ecdsa", "rsa")
FOLDER = "/var/lib/ssh"
_UNIT_FOLDER = "/usr/lib/systemd/system"
_CONFIG = "/etc/ssh/sshd_config.d/10-twinhull.conf"

# Into a file with another name first: otherwise a key that a power cut truncated would be kept for ever.
_UNIT = f"""\
[Unit]
Description=Make the %i host key of the SSH server
ConditionFileNotEmpty=!{FOLDER}/ssh_host_%i_key
RequiresMountsFor={FOLDER}
Before=ssh.service ssh.socket

[Service]
Type=oneshot
RemainAfterExit=yes
UMask=0077
ExecStart=/usr/bin/mkdir -p -m 0755 {FOLDER}
ExecStart=/usr/bin/rm -f {FOLDER}/new_%i_key {FOLDER}/new_%i_key.pub
ExecStart=/usr/bin/ssh-keygen -q -t %i -N "" -C "" -f {FOLDER}/new_%i_key
ExecStart=/usr/bin/chmod 0644 {FOLDER}/new_%i_key.pub
ExecStart=/usr/bin/sync {FOLDER}/new_%i_key {FOLDER}/new_%i_key.pub
ExecStart=/usr/bin/mv -f {FOLDER}/new_%i_key.pub {FOLDER}/ssh_host_%i_key.pub
ExecStart=/usr/bin/mv -f {FOLDER}/new_%i_key {FOLDER}/ssh_host_%i_key
"""


def host_key_files() -> dict[str, str]:
    """The files that make a host's keys and configure the server to use them, by path."""
    units = " ".join(f"ssh-host-key@{kind}.service" for kind in KINDS)
    wants = f"[Unit]\nWants={units}\nAfter={units}\n"
    return {
        f"{_UNIT_FOLDER}/ssh-host-key@.service": _UNIT,
        **{
            f"{_UNIT_FOLDER}/{name}.d/10-host-keys.conf": wants
            for name in ("ssh.service", "ssh.socket", "sshd@.service")
        },
        _CONFIG: "# Made by ssh-host-key@.service when they are missing.\n"
        + "".join(f"HostKey {FOLDER}/ssh_host_{kind}_key\n" for kind in KINDS),
    }
