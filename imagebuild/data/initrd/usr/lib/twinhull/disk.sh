# Finds this host's disk, the one the firmware started from; `init` sources this file.
#
# Copies of a disk, and disks of other hosts, have the same slots.  The loader says which partition it was started from
# (LoaderDevicePartUUID of the Boot Loader Interface), and every host's boot partitions have identities of their own.
# Where nothing says it, only one disk may have the slot; disks that cannot be told apart are a dead end.

# $1: a partition.
disk_of() {
    whole=$(readlink -f "/sys/class/block/${1##*/}/..")
    echo "${whole##*/}"
}

# Sets `disk`, `data` and `tree`; fails while they are not there.
find_slot() {
    origins= datas= trees= disk=
    while read -r device uuid; do
        device=${device%:}
        case $uuid in
        *"\"$data_uuid\""*) datas="$datas $device" ;;
        *"\"$tree_uuid\""*) trees="$trees $device" ;;
        esac
        [ -z "$origin" ] || case $uuid in
        *"\"$origin\""*) origins="$origins $(disk_of "$device")" ;;
        esac
    done <<END
$(blkid -c /dev/null -s PARTUUID)
END
    for one in $datas; do
        for other in $trees; do
            candidate=$(disk_of "$one")
            [ "$candidate" = "$(disk_of "$other")" ] || continue
            [ -z "$origin" ] || case "$origins " in
            *" $candidate "*) ;;
            *) continue ;;
            esac
            if [ -n "$disk" ]; then
                ! same_device "$disk" "$candidate" || continue
                refuse_disks "$disk" "$candidate"
            fi
            disk=$candidate data=$one tree=$other
        done
    done
    [ -n "$disk" ]
}

# Two paths to one device: only names that no two devices have count.
same_device() {
    for file in device/wwid wwid; do
        name=$(cat "/sys/class/block/$1/$file" 2>/dev/null) || continue
        case $name in
        naa.* | eui.* | uuid.*) [ "$name" != "$(cat "/sys/class/block/$2/$file" 2>/dev/null)" ] || return 0 ;;
        esac
    done
    return 1
}

tell_diskless() {
    say "no disk holds the slot of root hash $root_hash"
    [ -n "$origin" ] || return 0
    say "the firmware started from partition $origin, which is on:${origins:- no disk}, the slot is on:${datas:- no disk}"
}

refuse_disks() {
    for each in "$@"; do
        say "/dev/$each is $(readlink -f "/sys/class/block/$each")"
    done
    say "the disks $1 and $2 hold the same slot and cannot be told apart: take out the one that is not this host's"
    exit 1
}
