"""What belongs to a machine and has to survive whatever happens to its image."""

from collections.abc import Mapping

from bootc_build.vm.guest import Guest

_FOLDER = "/var/lib/bootc-build-rehearsal"
_OWN_FILE = "/etc/bootc-build-rehearsal.conf"
_USER = "rehearsal"
_LATER = f"{_FOLDER}/later"

# Changes the first of these files that the image has, so that the merge of /etc has something to keep;
# the others may differ in the next image by right.
_LEAVE = f"""
set -eu
mkdir -p {_FOLDER}
echo 'written by the owner of this machine' > {_OWN_FILE}
for file in /etc/motd /etc/issue /etc/profile; do
    if [ -f $file ] && ! [ -L $file ]; then
        echo '# changed by the owner of this machine' >> $file
        echo $file > {_FOLDER}/changed
        break
    fi
done
echo 'kept in /var' > {_FOLDER}/file
chown 4242:4243 {_FOLDER}/file
chmod 0640 {_FOLDER}/file
ln -s file {_FOLDER}/link
if command -v useradd > /dev/null && useradd --create-home {_USER}; then
    home=$(getent passwd {_USER} | cut -d: -f6)
    echo treasure > "$home/notes"
    chown {_USER}: "$home/notes"
fi
"""
# One line for each fact: its name, a tab, what it is now.
_TELL = f"""
tell() {{ printf '%s\\t%s\\n' "$1" "$2"; }}
tell /etc/machine-id "$(cat /etc/machine-id)"
tell 'the user {_USER}' "$(getent passwd {_USER})"
home=$(getent passwd {_USER} | cut -d: -f6)
for path in $(cat {_FOLDER}/changed) {_OWN_FILE} {_FOLDER} {_FOLDER}/* \\
    ${{home:+"$home" "$home/notes"}} /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub; do
    [ -e "$path" ] || continue
    sum=
    [ ! -f "$path" ] || sum=$(sha256sum < "$path" | cut -c1-16)
    tell "$path" "$(stat -c '%A %u:%g' "$path") $sum"
done
"""


def leave_state(guest: Guest) -> None:
    """Do what an owner does: files in /etc (one new, one changed), in /var, a user with a home."""
    guest.succeed(_LEAVE)


def leave_later_state(guest: Guest) -> None:
    """What an owner does after an upgrade; /var keeps it through a rollback, too."""
    guest.succeed(f"echo 'written after the upgrade' > {_LATER}")


def read_state(guest: Guest) -> dict[str, str]:
    """What is there of a machine's own: host keys, machine id, files, users; each fact by its name."""
    lines = guest.succeed(_TELL).splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is lost or changed, a sentence each. What is new is no difference."""
    found = []
    for name, value in before.items():
        if name not in now:
            found.append(f"{name} is gone (it was: {value}).")
        elif now[name] != value:
            found.append(f"{name} was '{value}' and is '{now[name]}'.")
    return found
