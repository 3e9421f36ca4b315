# Makes, checks and mounts /var and the host's state; `init` sources this file.
#
# Whatever has become of the two, the host boots: what e2fsck cannot repair is made anew, or something else takes its
# place.  Each thing done beyond the usual is a line of /run/twinhull/storage: what it was done to, one word, and why.
CHECK_LIMIT_S=3600

# What the image says (`var` in image.yaml).
choose_repair() {
    on_damage=repair
    case $(cat /sysroot/usr/lib/twinhull/storage.json) in
    *'"on_damage": "reset"'*) on_damage=reset ;;
    *'"on_damage": "volatile"'*) on_damage=volatile ;;
    esac
}

# $1: var or state; $2: what was done; $3: why.
note() {
    mkdir -p /run/twinhull
    echo "$1 $2 $3" >>/run/twinhull/storage || :
    say "$1: $2: $3"
}

# Sets `var` and `state` to the partitions of the disk $disk with these labels, or to nothing.
find_storage() {
    find_partitions
    var= state=
    while read -r device label; do
        case $label in
        *'PARTLABEL="var"'*) var=${var:-${device%:}} ;;
        *'PARTLABEL="state"'*) state=${state:-${device%:}} ;;
        esac
    done <<END
$(blkid -c /dev/null -s PARTLABEL $partitions)
END
}

# $1: var or state; $2: its partition.  Small blocks give state spare superblocks, at the places where e2fsck looks for them.
format() {
    small=
    [ "$1" != state ] || small="-b 1024 -i 4096"
    mkfs.ext4 -q -F -E nodiscard -L "$1" $small "$2"
}

# On the disk the slot was found on, and on no other.  The seed is this host's own: two hosts never have the same /var.
make_storage() {
    find_storage
    # A /var whose partition is gone may be found again by a person: nothing is made over it.
    [ -z "$state" ] || [ -n "$var" ] || [ "$on_damage" = reset ] || return 0
    had_state=$state had_var=$var
    systemd-repart --dry-run=no --pretty=no --seed=random --definitions=/sysroot/usr/lib/repart.d "/dev/$disk" \
        >/dev/null || say "the partitions of /dev/$disk could not be made or grown"
    [ -z "$had_state" ] || [ -z "$had_var" ] || return 0
    find_storage
    [ -n "$had_state" ] || [ -z "$state" ] || format state "$state" || :
    # Neither was there at the first boot.
    trouble="the disk had no partition for it"
    [ -z "$had_var" ] || [ -n "$had_state" ] || [ -z "$state" ] || note state reset "$trouble"
    [ -z "$had_state" ] || [ -n "$had_var" ] || [ -z "$var" ] || note var reset "$trouble"
}

# $1: var or state; $2: its partition.  Fails with `trouble` set, and with `lost` where it is the file system that is at
# fault: only then may it be made anew, for the initrd of a trial may be what is broken.
check() {
    run_e2fsck -p "$2"
    [ "$code" -gt 1 ] || return 0
    trouble="e2fsck of $2 ended with $code"
    [ "$1" = state ] || [ "$on_damage" != volatile ] || return 1
    # What is not ext4 any more may still have an old ext4's spare superblocks, and no repair leaves it whole.
    type=$(blkid -p -o value -s TYPE "$2" || :)
    if [ -n "$type" ] && [ "$type" != ext4 ]; then
        trouble="$2 holds $type" lost=yes
        return 1
    fi
    [ "$code" -ge 16 ] || run_e2fsck -y "$2"
    trouble="e2fsck of $2 ended with $code"
    if [ "$code" -le 2 ]; then
        note "$1" repaired "$2 had errors, which e2fsck -y corrected"
        return 0
    fi
    [ "$code" -ge 16 ] || lost=yes
    return 1
}

# $1: -p or -y; $2: a partition.  From 16 on the code is not about the file system: a wrong call, no program, no time.
run_e2fsck() {
    code=0
    more_time
    timeout "$CHECK_LIMIT_S" e2fsck "$1" "$2" || code=$?
}

# $1: var or state; $2: its partition; $3: where to.
mount_checked() {
    trouble="the disk has no partition for it" lost=
    [ -n "$2" ] && check "$1" "$2" || return 1
    trouble="$2 cannot be mounted"
    mount -t ext4 -o nodev,nosuid "$2" "$3"
}

make_anew() {
    [ -n "$lost" ] && format "$1" "$2" && mount -t ext4 -o nodev,nosuid "$2" "$3" || return 1
    note "$1" reset "$trouble"
}

open_var() {
    if mount_checked var "$var" /sysroot/var; then
        # The kernel does it, on request: nobody may write to a device that is mounted (`mounted_disks` in image.yaml).
        /usr/lib/systemd/systemd-growfs /sysroot/var || say "/var could not be grown"
    elif [ "$on_damage" != reset ] || ! make_anew var "$var" /sysroot/var; then
        hold_var_in_memory
    fi
}

hold_var_in_memory() {
    mount -t tmpfs -o nodev,nosuid,mode=0755 tmpfs /sysroot/var
    note var volatile "$trouble"
}

# A folder on /var takes the place of a state that cannot be made anew; what was in it before counts again.
open_state() {
    place=/sysroot/var/lib/twinhull
    # A link would lead out of /var, or to where it is not looked for.
    for path in /sysroot/var/lib "$place"; do
        [ ! -h "$path" ] || rm -f "$path" || :
    done
    if ! mkdir -p "$place"; then
        umount /sysroot/var || :
        trouble="it takes no folder"
        hold_var_in_memory
        mkdir -p "$place"
    fi
    mount_checked state "$state" "$place" || make_anew state "$state" "$place" || note state on-var "$trouble"
}
