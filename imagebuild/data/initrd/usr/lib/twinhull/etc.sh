# Lays the host's edits over /etc, as far as the image lets them persist; `init` sources this file.
#
# Of the host's part of /etc: files, the size of each, and how long a step and all of them may take.
ETC_FILES=512
ETC_KIB=256
ETC_STEP_LIMIT_S=5
ETC_LIMIT_S=20

# A folder of its own, whatever else has its name.
own_folder() {
    [ -d "$1" ] && [ ! -L "$1" ] || { rm -f "$1" && mkdir -m 0755 "$1"; }
}

# Hostile folders take longer to remove than a boot may; what is left over then is in the way until a later boot.
clear_away() {
    timeout "$ETC_STEP_LIMIT_S" rm -rf "$@" || return 1
    for left_over in "$@"; do
        [ ! -e "$left_over" ] && [ ! -L "$left_over" ] || return 1
    done
}

# $1: a folder below /etc, which gets the owner and mode that it has in the image, else those that the host gave it.
etc_folder() {
    [ ! -d "$renewed/$1" ] || return 0
    case $1 in
    */*) etc_folder "${1%/*}" || return 1 ;;
    esac
    like=/sysroot/etc/$1
    [ -d "$like" ] || like=$upper/$1
    set -- "$renewed/$1" $(stat -c '%a %u:%g' "$like")
    mkdir "$1" && chown "$3" "$1" && chmod "$2" "$1" && chmod u-s,g-s "$1"
}

# $1: a folder of the host's layer.  None of its parts may be a link, for that could lead anywhere.
plain_folder() {
    case $1 in
    */*) plain_folder "${1%/*}" || return 1 ;;
    esac
    [ -d "$upper/$1" ] && [ ! -L "$upper/$1" ]
}

# $1: file or folder, $2: its name below /etc.  Only plain files of a sensible size and with harmless names, each as a copy
# of its content, owner and mode: no links, devices or attributes of the file system come along.
keep_name() {
    case $1 in
    folder) within=$2 deep=8 pattern='*' ;;
    file) within=. deep=1 pattern=${2##*/} ;;
    *) return 0 ;;
    esac
    case $1$2 in
    file*/*) within=${2%/*} ;;
    esac
    plain_folder "$within" || return 0
    case $1$2 in
    *'*'*) ;;
    file*) [ -f "$upper/$2" ] || return 0 ;;
    esac
    for path in $(timeout "$ETC_STEP_LIMIT_S" find "$upper/$within" -mindepth 1 -maxdepth "$deep" \
        -name '*[!A-Za-z0-9._@:+-]*' -prune -o -type f -size "-${ETC_KIB}k" -name "$pattern" -print | head -n "$left"); do
        name=${path#"$upper/$within/"}
        [ "$within" = . ] || name=$within/$name
        left=$((left - 1))
        case $name in
        */*) etc_folder "${name%/*}" || return 1 ;;
        esac
        cp -p "$path" "$renewed/$name" && chmod u-s,g-s "$renewed/$name" && continue
        rm -f "$renewed/$name"
        # A file that cannot be read is lost anyway; one that cannot be written means that none can.
        ! cat "$path" >/dev/null || return 1
        say "/etc/$name cannot be read"
    done
}

# Copies what may persist of the layer at $upper into the new folder $renewed; nothing that is there bounds its time.
keep_names() {
    left=$ETC_FILES
    read -r now _ </proc/uptime || return 1
    latest=$((${now%%.*} + ETC_LIMIT_S))
    own_folder "$upper" && mkdir -m 0755 "$renewed" || return 1
    while read -r kind name; do
        read -r now _ </proc/uptime
        [ "${now%%.*}" -le "$latest" ] || { say "edits of /etc take too long to read, the rest is left out"; break; }
        keep_name "$kind" "$name" || return 1
    done <"$policy"
}

# Whether there is something that was not kept; what systemd makes anew at each boot does not count.
leaves_behind() {
    usual=" .pwd.lock passwd passwd- group group- shadow shadow- gshadow gshadow- "
    for path in $(timeout "$ETC_STEP_LIMIT_S" find "$upper" ! -type d | head -n "$((ETC_FILES + 20))"); do
        name=${path#"$upper/"}
        case $usual in
        *" $name "*) continue ;;
        esac
        [ -e "$renewed/$name" ] || return 0
    done
    return 1
}

# The layer of this host's edits: at each boot a new one that holds nothing but what may persist.  Before the first rename
# it is whole on the disk; the power may go at any moment.
renew_layer() {
    upper=$layers/upper renewed=$layers/new
    [ -e "$upper" ] || [ ! -d "$renewed" ] || mv "$renewed" "$upper" || return 1
    clear_away "$renewed" "$layers/old" "$layers/work" && keep_names && mkdir "$layers/work" && sync || return 1
    mv "$upper" "$layers/old" && mv "$renewed" "$upper" || return 1
    upper=$layers/old renewed=$layers/upper
    if leaves_behind; then
        echo "twinhull: not all edits of /etc persist, see updater etc-diff"
        # /usr/lib/twinhull/etc-edited looks for it.
        mkdir -p /run/twinhull && : >/run/twinhull/etc-refused
        clear_away "$layers/refused" && mv "$layers/old" "$layers/refused" || :
    else
        clear_away "$layers/old" || :
    fi
}

# Every edit persists but those of the files of accounts, each of which would hide the users that later images bring.
open_layer() {
    upper=$layers/upper
    own_folder "$upper" || return 1
    for path in "$upper/passwd" "$upper/group" "$upper/shadow" "$upper/gshadow" "$upper/subuid" "$upper/subgid"; do
        [ -e "$path" ] || [ -L "$path" ] || continue
        own_folder "$layers/refused" && clear_away "$layers/refused/${path##*/}" && mv "$path" "$layers/refused/" || return 1
    done
    own_folder "$layers/work"
}

mount_etc() {
    options=${etc}redirect_dir=nofollow,metacopy=off
    mount -t overlay -o "$options,lowerdir=/sysroot/etc,upperdir=$layers/upper,workdir=$layers/work" overlay /sysroot/etc
}

# What of the host's edits of /etc persists is the image's to say (etc: in image.yaml, updater/etc_policy.py), and not the
# disk's, which may have been written while this host was off.
lay_etc() {
    layers=/sysroot/var/lib/twinhull/etc policy=/sysroot/usr/lib/twinhull/etc-policy
    renew=renew_layer
    set -f
    ! read -r _ mode <"$policy" || [ "$mode" != overlay ] || renew=open_layer
    if own_folder "$layers" && { $renew || { clear_away "$layers/refused" && $renew; }; } && mount_etc; then
        set +f
        return 0
    fi
    say "edits of /etc cannot be kept, they last for this boot only"
    upper=$layers/upper layers=/run/twinhull/etc renewed=/run/twinhull/etc/upper
    mkdir -p "$layers" && chmod 0700 "$layers" && mkdir "$layers/work"
    keep_names || mkdir -p "$renewed"
    set +f
    mount_etc
}
