"""A container image of a few MB whose ``bootc`` is a shell script that lays a tree down, for tests of seconds.

What the script does besides is asked for by kernel arguments: ``stand-in=hang`` sleeps, ``stand-in=fail``
fails, ``stand-in=old`` knows no imported layers, ``stand-in=fill:N`` makes N MB, ``stand-in=lose:PATH`` leaves a
file out.
"""

import re
import shutil
from pathlib import Path

from bootc_build.image.base_tree import copy_image_root
from bootc_build.onhost.process import run
from bootc_build.tools.buildah import working_container
from tests.disk.installed_trees import DEPLOYMENT, make_installed_tree

PROGRAMS = ("sh", "cp", "sleep", "head", "mkdir", "mv", "rm")
# Nobody else sleeps that long, so that the process can be found.
HANG_SECONDS = 61234
KERNEL = "usr/lib/modules/6.12.0-test"

_INSTALLER = f"""#!/bin/sh
set -e
for last; do
  if [ "$before" = --stateroot ]; then stateroot="$last"; fi
  before="$last"
  case "$last" in
    stand-in=hang) echo "now hanging"; sleep {HANG_SECONDS} ;;
    stand-in=fail) echo "the installer says why" >&2; exit 3 ;;
    stand-in=old) case "$*" in *--imported-layers*) exit 2 ;; esac ;;
    stand-in=lose:*) lose="${{last#stand-in=lose:}}" ;;
    stand-in=fill:*) fill="${{last#stand-in=fill:}}" ;;
  esac
done
rm -rf "$last/.bootc-layers"
cp -a /usr/share/stand-in/. "$last"
if [ "$stateroot" != default ]; then mv "$last/ostree/deploy/default" "$last/ostree/deploy/$stateroot"; fi
if [ -n "$lose" ]; then rm "$last/$lose"; fi
echo "$@" > "$last/arguments"
if [ -e /run/bootc-build/src/authorized_keys ]; then cp /run/bootc-build/src/authorized_keys "$last/keys"; fi
if [ -n "$fill" ]; then head -c "$fill"M /dev/urandom > "$last/filling"; fi
"""


def make_stand_in_image(
    tag: str,
    scratch: Path,
    *,
    without: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    agent: bool = False,
    kernel: bytes = b"kernel",
) -> None:
    """Build it.

    Args:
        tag: its name in local storage.
        scratch: a folder to work in.
        without: paths to leave out of it.
        extra: files to put in besides; they hold the names of the modules of btrfs and xfs.
        agent: have the real agent's files in it, too, which nobody runs.
        kernel: what its kernel consists of.
    """
    root = scratch / "root"
    for program in PROGRAMS:
        _copy_with_libraries(program, root)
    make_installed_tree(_folder(root / "usr/share/stand-in"))
    # What is deployed is what is in the image.
    deployed = root / "usr/share/stand-in" / DEPLOYMENT
    shutil.copytree(deployed, root, symlinks=True, dirs_exist_ok=True)
    files = (
        f"{KERNEL}/vmlinuz",
        f"{KERNEL}/initramfs.img",
        "usr/lib/grub/i386-pc/boot.img",
        "usr/lib/shim/shimx64.efi.signed",
        "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    )
    for name in files:
        _folder((root / name).parent).joinpath(Path(name).name).write_text(name)
    (root / KERNEL / "vmlinuz").write_bytes(kernel)
    for name in extra:
        _folder((root / name).parent).joinpath(Path(name).name).write_text(
            "kernel/fs/btrfs/btrfs.ko\nkernel/fs/xfs/xfs.ko\n"
        )
    if agent:
        copy_image_root(root)
    (root / "usr/bin/bootc").write_text(_INSTALLER)
    (root / "usr/bin/bootc").chmod(0o755)
    _folder(root / "sysroot")
    for name in without:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with working_container("scratch") as container:
        run(["buildah", "copy", "--quiet", container.name, str(root), "/"])
        container.configure(labels={"containers.bootc": "1"})
        container.commit(tag)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _copy_with_libraries(program: str, root: Path) -> None:
    found = Path(shutil.which(program) or program)
    libraries = re.findall(r"(/\S+) \(0x", run(["ldd", str(found)]).stdout)
    shutil.copy(found, _folder(root / "usr/bin") / program)
    for library in libraries:
        # As merged-/usr has it: /lib64/ld-linux… is usr/lib64/ld-linux….
        place = root / "usr" / Path(library).relative_to("/").as_posix().removeprefix("usr/")
        shutil.copy(library, _folder(place.parent) / place.name)
    for top in ("bin", "lib", "lib64"):
        if not (root / top).is_symlink():
            (root / top).symlink_to(f"usr/{top}")
