# Reads and writes variables of the firmware; `init` sources this file.
LOADER=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
VARIABLES=/sys/firmware/efi/efivars
# Ours; updater/agent/efi.py names it as well.
FAILURE=$VARIABLES/TwinhullFailure-2a84b37f-a949-4457-ade6-f758c332679f

# systemd leaves it alone when it is mounted.
mount_variables() {
    [ -d "$VARIABLES" ] || return 0
    modprobe -q efivarfs || :
    mount -t efivarfs -o nosuid,nodev,noexec efivarfs "$VARIABLES" || say "the firmware's variables cannot be read"
}

# The partition that the loader was started from, or nothing: four bytes of attributes, then UTF-16.
read_origin() {
    origin=
    file=$VARIABLES/LoaderDevicePartUUID-$LOADER
    [ -e "$file" ] || return 0
    origin=$(tail -c +5 "$file" | tr -d '\0' | tr A-F a-f)
}

# $1: the end of the kernel's log.  One line in the firmware's memory says to the system that starts next why this one did
# not: what root hash, and the last of the log.  It takes the place of an earlier one, so it never grows.
leave_evidence() {
    [ -d "$VARIABLES" ] || return 0
    last=$(echo "$1" | tail -n 3 | tr '\n' ' ')
    [ ! -e "$FAILURE" ] || chattr -i "$FAILURE"
    # The attributes, and all of it in one write: kept over resets, for the firmware and the system.
    printf '\007\000\000\000%s' "${root_hash:--} ${last:0:400}" >"$FAILURE"
}
