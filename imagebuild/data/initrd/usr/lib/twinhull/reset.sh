# Resets the host, or its /etc alone, where that was asked for; `init` sources this file.
#
# The request is a file of the state and is removed last, so a cut of power in the middle repeats what is left of it.  It is
# one line (updater/agent/ground/reset.py writes it): all or etc, keep-identity or new-identity, and what a credential that
# asked for it is remembered by.

# The boot menu's entry, where the image has one (`reset` in image.yaml), asks by the command line that is signed with it.
read_menu() {
    case $(cat /sysroot/usr/lib/twinhull/storage.json) in
    *'"boot_menu": true'*) ;;
    *) return 0 ;;
    esac
    for word in $own; do
        [ "$word" != twinhull.reset ] || echo "all new-identity" >"$place/reset" || :
    done
}

carry_out_reset() {
    read_menu
    [ -f "$place/reset" ] && [ ! -h "$place/reset" ] || return 0
    scope= identity= mark=
    read -r scope identity mark <"$place/reset" || :
    case "$scope $identity" in
    "all keep-identity" | "all new-identity" | "etc keep-identity" | "etc new-identity") ;;
    *)
        say "the request to reset this host cannot be read and is removed"
        rm -f "$place/reset" || :
        return 0
        ;;
    esac
    say "resetting $scope, $identity"
    # What fails here is said and passed over: the host boots.
    sync
    [ "$identity" = new-identity ] || keep_identity || say "not all of the identity could be kept"
    if [ "$scope" = all ]; then
        renew_var
        empty_state || say "not all of the state could be removed"
    else
        rm -rf "$place/etc" || say "/etc could not be reset"
        if [ "$identity" = new-identity ]; then
            rm -rf "$place/provision.json" "$place/provision-document" /sysroot/var/lib/ssh || say "not all of the identity could be removed"
        fi
    fi
    [ "$identity" = new-identity ] || restore_identity || say "not all of the identity could be restored"
    [ -z "$mark" ] || echo "$mark" >"$place/reset-done" || :
    # Wherever one of the two partitions is lost, the credential that is still there resets nothing again.
    if [ -f "$place/reset-done" ]; then
        mkdir -p /sysroot/var/lib && cp "$place/reset-done" /sysroot/var/lib/twinhull-reset-done || :
    fi
    sync
    rm -f "$place/reset" || say "the request to reset this host could not be removed"
    sync
    if [ "$scope" = all ]; then
        note var reset "as requested"
        note state reset "as requested, $identity"
    else
        note /etc reset "as requested, $identity"
    fi
}

# What a host is known by: machine-id, hostname, the ssh host keys, and what it was provisioned with.
keep_identity() {
    kept=$place/kept
    [ ! -e "$kept/whole" ] || return 0
    rm -rf "$kept" && mkdir -p "$kept/etc" || return 1
    for name in machine-id hostname; do
        [ ! -e "$place/etc/upper/$name" ] || cp -a "$place/etc/upper/$name" "$kept/etc/" || return 1
    done
    for name in provision.json provision-document; do
        [ ! -e "$place/$name" ] || cp -a "$place/$name" "$kept/" || return 1
    done
    [ ! -d /sysroot/var/lib/ssh ] || cp -a /sysroot/var/lib/ssh "$kept/" || return 1
    # Not before the rest is on the disk.
    sync
    echo >"$kept/whole"
    sync
}

restore_identity() {
    kept=$place/kept
    [ -e "$kept/whole" ] || return 0
    mkdir -p "$place/etc/upper" /sysroot/var/lib || return 1
    for name in machine-id hostname; do
        [ ! -e "$kept/etc/$name" ] || cp -a "$kept/etc/$name" "$place/etc/upper/" || return 1
    done
    for name in provision.json provision-document; do
        [ ! -e "$kept/$name" ] || cp -a "$kept/$name" "$place/" || return 1
    done
    [ ! -d "$kept/ssh" ] || cp -a "$kept/ssh" /sysroot/var/lib/ || return 1
    sync
    # This first: what is half removed counts no more, and all of it is in its place.
    rm -f "$kept/whole"
    sync
    rm -rf "$kept"
}

renew_var() {
    umount "$place" || :
    umount /sysroot/var || :
    if [ -z "$var" ]; then
        on_damage=reset
        make_storage
    fi
    [ -z "$var" ] || format var "$var" || say "/var could not be made anew"
    open_var
    open_state
}

empty_state() {
    for path in "$place"/* "$place"/.[!.]*; do
        case " reset reset-done kept lost+found " in
        *" ${path##*/} "*) continue ;;
        esac
        rm -rf "$path" || return 1
    done
}
