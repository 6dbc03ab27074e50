"""Corner cases of importing as small images with what should become of them, for any machine's libostree.

``python3 -m tests.onhost.corner_cases FOLDER`` imports every image below FOLDER (as `write_cases` left them) into a
repository of its own, checks that with ``ostree fsck``, and prints what it found as JSON. It needs the agent's own
packages only, so it runs inside the operating systems that bootc is for.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import create_repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull
from tests.onhost.importing import listing
from tests.onhost.oci_images import Dir, Entry, File, Link, Special, Symlink, tar_of, write_image

CAPABILITY = (b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)).decode()
LONG = "usr/" + "d" * 150 + "/" + "n" * 200
# What its header holds of it, a hundred bytes, ends in a slash.
CUT = "usr/" + "c" * 95 + "/" + "f" * 20


@dataclass(frozen=True)
class Case:
    """Layers, and what they become: paths with "mode uid gid size", or words of the error."""

    layers: Sequence[Sequence[Entry] | bytes]
    expected: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    compression: str = "gzip"


USR = {"/": "d00755 0 0 0", "/usr": "d00755 0 0 0"}
CASES = {
    **{
        f"compression-{name}": Case(
            [[File("usr/a", data=b"1" * 9000)], [File("usr/b")]],
            {**USR, "/usr/a": "-00644 0 0 9000", "/usr/b": "-00644 0 0 0"},
            compression=name,
        )
        for name in ("gzip", "zstd", "none", "skippable")
    },
    "whiteouts": Case(
        [
            [File("usr/a/1"), File("usr/b/1"), File("usr/c"), File("etc/x"), File("etc/y/z")],
            [File("usr/a/.wh.1"), File("usr/b/.wh..wh..opq"), File("usr/b/2"), File("usr/.wh.c"),
             File("etc/.wh.x"), File("etc/y/.wh..wh..opq")],
        ],
        {**USR, "/usr/a": "d00755 0 0 0", "/usr/b": "d00755 0 0 0", "/usr/b/2": "-00644 0 0 0",
         "/usr/etc": "d00755 0 0 0", "/usr/etc/y": "d00755 0 0 0"},
    ),
    "kinds": Case(
        [
            [File("usr/fd"), File("usr/df/x"), Symlink("usr/ld", target="t"),
             File("usr/fl"), File("usr/dl/x"), Symlink("usr/lf", target="t")],
            [File("usr/fd/x"), File("usr/df", data=b"1"), File("usr/ld/x"),
             Symlink("usr/fl", target="t"), Symlink("usr/dl", target="t"), File("usr/lf")],
        ],
        {**USR, "/usr/fd": "d00755 0 0 0", "/usr/fd/x": "-00644 0 0 0", "/usr/df": "-00644 0 0 1",
         "/usr/ld": "d00755 0 0 0", "/usr/ld/x": "-00644 0 0 0", "/usr/fl": "l00777 0 0 0 -> t",
         "/usr/dl": "l00777 0 0 0 -> t", "/usr/lf": "-00644 0 0 0"},
    ),
    "hard links": Case(
        [
            [File("etc/a", data=b"one"), Link("usr/b", target="/etc/a")],
            [Link("usr/c", target="etc/a"), File("etc/.wh.a")],
        ],
        {**USR, "/usr/b": "-00644 0 0 3", "/usr/c": "-00644 0 0 3", "/usr/etc": "d00755 0 0 0"},
    ),
    "modes": Case(
        [
            [Dir("./", mode=0o700), Dir("usr", mode=0o711, uid=5), Dir("usr/l", mode=0o2750, gid=6)],
            [File("usr/l/x", mode=0o6755, uid=1, gid=2)],
        ],
        {"/": "d00700 0 0 0", "/usr": "d00711 5 0 0", "/usr/l": "d02750 0 6 0",
         "/usr/l/x": "-06755 1 2 0"},
    ),
    "attributes": Case(
        [[File("usr/p", data=b"x", pax={"SCHILY.xattr.user.n": "v",
                                        "SCHILY.xattr.security.capability": CAPABILITY}),
          Dir("usr/d", pax={"SCHILY.xattr.user.d": "1"})]],
        {**USR, "/usr/p": "-00644 0 0 1", "/usr/d": "d00755 0 0 0"},
    ),
    "long PAX names": Case(
        [[File(LONG, data=b"1"), File("usr/grün", data=b"2")]],
        {**USR, "/usr/" + "d" * 150: "d00755 0 0 0", "/" + LONG: "-00644 0 0 1",
         "/usr/grün": "-00644 0 0 1"},
    ),
    "names cut after a slash": Case(
        [tar_of([File(CUT, data=b"1")], kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)],
        {**USR, "/" + CUT[:99]: "d00755 0 0 0", "/" + CUT: "-00644 0 0 1"},
    ),
    "long GNU names": Case(
        [tar_of([File(LONG, data=b"1"), Symlink("usr/l", target="t" * 300)], tarfile.GNU_FORMAT)],
        {**USR, "/usr/" + "d" * 150: "d00755 0 0 0", "/" + LONG: "-00644 0 0 1",
         "/usr/l": "l00777 0 0 0 -> " + "t" * 300},
    ),
    "large": Case(
        [[File("usr/large", data=bytes(range(256)) * 12_000), File("usr/hole", data=bytes(2_000_000))]],
        {**USR, "/usr/large": "-00644 0 0 3072000", "/usr/hole": "-00644 0 0 2000000"},
    ),
    "runtime directories": Case(
        [[Dir("run"), File("run/x"), Special("dev/null"), File("tmp/x"), File("var/lib/x"), Dir("usr")]],
        {**USR, "/run": "d00755 0 0 0", "/var": "d00755 0 0 0", "/var/lib": "d00755 0 0 0",
         "/var/lib/x": "-00644 0 0 0"},
    ),
    "device": Case([[Special("usr/null")]], error="character device"),
    "climbing": Case([[File("usr/../../x")]], error="'..'"),
    "no UTF-8": Case([[File("usr/bad\udcff")]], error="not UTF-8"),
    "link to nothing": Case([[Link("usr/l", target="usr/gone")]], error="which no layer below has"),
}  # fmt: skip


def write_cases(folder: Path) -> None:
    """An OCI layout for each case, below a folder."""
    for name, case in CASES.items():
        write_image(folder / name, case.layers, compression=case.compression)


def import_all(folder: Path) -> dict[str, object]:
    """Import every image below a folder: its listing, or the words of the error; by name."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for layout in sorted(folder.iterdir()):
            repo = create_repo(Path(scratch, layout.name))
            image = ImageReference("oci", f"{layout}:image")
            try:
                found[layout.name] = listing(
                    repo, pull(repo, image, progress=Silent()).merge_commit
                )
            except UserError as error:
                found[layout.name] = error.fact
            fsck = ["ostree", "fsck", "--quiet", f"--repo={repo.path}"]
            subprocess.run(fsck, check=True, stdout=sys.stderr)
    return found


if __name__ == "__main__":
    json.dump(import_all(Path(sys.argv[1])), sys.stdout)
