"""Each lint on a tree that breaks its one rule: it alone speaks, names the path and says what to do."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.lint.model import Finding, Level
from bootc_build.onhost.lint.registry import lint_root
from bootc_build.onhost.lint.root import Root
from tests.kernels import small_kernel

Findings = Callable[[], list[Finding]]
MODULES = "usr/lib/modules/6.12.0-1-amd64"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def findings(tree: Path) -> Findings:
    return lambda: list(lint_root(Root(tree)).findings)


def put(root: Path, path: str, text: str = "content") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def link(root: Path, path: str, target: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).symlink_to(target)


def etc_is_a_file(root: Path) -> None:
    (root / "etc").rename(root / "usr/lib/etc")
    put(root, "etc")


def replace(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def device(root: Path) -> None:
    os.mknod(root / "usr/lib/null", 0o600 | 0o020000, os.makedev(1, 3))


def listening(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root / "var/log/app")  # a socket's path has to be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)


def second_kernel(root: Path) -> None:
    put(root, "usr/lib/modules/6.13.0/vmlinuz")
    put(root, "usr/lib/modules/6.13.0/initramfs.img")


def cut_kernel(root: Path) -> None:
    (root / MODULES / "vmlinuz").write_bytes(small_kernel()[:-1])


def real_var_run(root: Path) -> None:
    (root / "var/run").unlink()
    (root / "var/run").mkdir()


def linked_to_tmp(root: Path) -> None:
    put(root, "dev/original")
    os.link(root / "dev/original", root / "usr/lib/other-name")


def enable_composefs(root: Path) -> None:
    put(root, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = yes\n")


# lint, paths, how the tree is broken
BROKEN: list[tuple[str, list[str], Callable[[Path], object]]] = [
    ("api-base-directories", ["/proc"], lambda root: (root / "proc").rmdir()),
    ("api-base-directories", ["/tmp"], lambda root: shutil.move(root / "tmp", root / "usr/tmp")),
    (
        "baseimage-composefs",
        ["/usr/lib/ostree/prepare-root.conf"],
        lambda root: put(root, f"{LIBRARIES}/libcomposefs.so.1"),
    ),
    ("baseimage-composefs", ["/usr/lib/ostree/prepare-root.conf"], enable_composefs),
    ("baseimage-root", ["/sysroot"], lambda root: (root / "sysroot").rmdir()),
    ("baseimage-root", ["/ostree"], lambda root: replace(root / "ostree", "/sysroot/ostree")),
    ("bootc-binary", ["/usr/bin/bootc"], lambda root: (root / "usr/bin/bootc").unlink()),
    (
        "bootc-kargs",
        ["/usr/lib/bootc/kargs.d/20-b.toml"],
        lambda root: put(root, "usr/lib/bootc/kargs.d/20-b.toml", 'kargs = "quiet"\n'),
    ),
    (
        "bootc-kargs",
        ["/usr/lib/bootc/kargs.d/20-b.toml"],
        lambda root: put(root, "usr/lib/bootc/kargs.d/20-b.toml", 'kargs = []\nkarg = ["a"]\n'),
    ),
    (
        "bootc-kargs",
        ["/usr/lib/bootc/kargs.d/20-b.toml"],
        lambda root: put(root, "usr/lib/bootc/kargs.d/20-b.toml", "kargs = [\n"),
    ),
    ("buildah-injected", ["/etc/hostname"], lambda root: put(root, "etc/hostname", "")),
    ("buildah-injected", ["/etc/resolv.conf"], lambda root: put(root, "etc/resolv.conf", "")),
    ("dropped-hardlink", ["/usr/lib/other-name"], linked_to_tmp),
    (
        "bootc-kargs",
        ["/usr/lib/bootc/kargs.d/20-b.toml"],
        lambda root: link(root, "usr/lib/bootc/kargs.d/20-b.toml", "/nowhere"),
    ),
    (
        "bootc-kargs",
        ["/usr/lib/bootc/kargs.d/20-b.toml"],
        lambda root: (root / "usr/lib/bootc/kargs.d/20-b.toml").mkdir(parents=True),
    ),
    (
        "bound-images",
        ["/usr/lib/bootc/bound-images.d"],
        lambda root: put(root, "usr/lib/bootc/bound-images.d"),
    ),
    (
        "bound-images",
        ["/usr/lib/bootc/bound-images.d"],
        lambda root: link(root, "usr/lib/bootc/bound-images.d/a.image", "/nowhere"),
    ),
    ("etc-usretc", ["/usr/etc"], lambda root: put(root, "usr/etc/a")),
    ("etc-usretc", ["/etc"], lambda root: (root / "etc").rename(root / "usr/lib/etc")),
    ("etc-usretc", ["/etc"], etc_is_a_file),
    (
        "initramfs",
        [f"/{MODULES}/initramfs.img"],
        lambda root: (root / MODULES / "initramfs.img").unlink(),
    ),
    (
        "initramfs",
        [f"/{MODULES}/initramfs.img"],
        lambda root: put(root, f"{MODULES}/initramfs.img", ""),
    ),
    ("kernel", ["/usr/lib/modules"], lambda root: (root / MODULES / "vmlinuz").unlink()),
    (
        "kernel",
        [f"/{MODULES}/vmlinuz", "/usr/lib/modules/6.13.0/vmlinuz"],
        second_kernel,
    ),
    ("kernel", [f"/{MODULES}/vmlinuz"], cut_kernel),
    ("machine-id", ["/etc/machine-id"], lambda root: put(root, "etc/machine-id", "0a" * 16)),
    ("nonempty-boot", ["/boot/vmlinuz-6"], lambda root: put(root, "boot/vmlinuz-6")),
    ("nonempty-boot", ["/boot"], lambda root: (root / "boot").rmdir()),
    ("nonempty-run-tmp", ["/tmp/build"], lambda root: put(root, "tmp/build/deep/file")),
    ("nonempty-run-tmp", ["/run/apt"], lambda root: (root / "run/apt").mkdir()),
    ("special-files", ["/usr/lib/null"], device),
    ("special-files", ["/usr/lib/fifo"], lambda root: os.mkfifo(root / "usr/lib/fifo")),
    (
        "ssh-host-keys",
        ["/etc/ssh/ssh_host_ed25519_key"],
        lambda root: put(root, "etc/ssh/ssh_host_ed25519_key"),
    ),
    ("sysusers", ["/etc/passwd"], lambda root: put(root, "etc/passwd", "nginx:x:5:0::/:/bin/sh\n")),
    ("sysusers", ["/etc/group"], lambda root: put(root, "etc/group", "nginx:x:5:\n")),
    ("toplevel", ["/app"], lambda root: put(root, "app/program")),
    ("toplevel", ["/srv"], lambda root: put(root, "srv/www/index.html")),
    ("var-log", ["/var/log/app/a.log"], lambda root: put(root, "var/log/app/a.log")),
    (
        "var-run",
        ["/var/run"],
        real_var_run,
    ),
    ("var-tmpfiles", ["/var/lib"], lambda root: (root / "var/lib/app/deep").mkdir(parents=True)),
    ("var-tmpfiles", ["/var/home/file"], lambda root: put(root, "var/home/file")),
]


def test_a_good_tree_has_no_findings(findings: Findings) -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("name", "paths", "damage"), BROKEN, ids=[f"{name}-{paths[0]}" for name, paths, _ in BROKEN]
)
def test_a_broken_rule_is_found_with_path_and_remedy(
    tree: Path,
    findings: Findings,
    name: str,
    paths: list[str],
    damage: Callable[[Path], object],
) -> None:
    damage(tree)
    found = findings()
    assert [(one.lint, list(one.paths)) for one in found] == [(name, sorted(paths))]
    assert found[0].message
    assert found[0].remedy


def test_names_that_are_not_utf8_are_found_and_shown(tree: Path, findings: Findings) -> None:
    (tree / "usr/lib" / os.fsdecode(b"x\xe9")).mkdir()
    (tree / "usr/lib/link").symlink_to(os.fsdecode(b"to\xff"))
    (tree / "usr/lib/häuser").mkdir()
    (tree / "usr/lib/loop").symlink_to("loop")
    found = findings()
    assert {one.lint for one in found} == {"utf8"}
    assert [one.paths for one in found] == [(r"/usr/lib/x\xe9",), ("/usr/lib/link",)]
    assert all(one.level is Level.FATAL for one in found)


def test_a_socket_is_a_special_file(tree: Path, findings: Findings) -> None:
    listening(tree)
    assert ("special-files", ("/var/log/app/socket",)) in [(f.lint, f.paths) for f in findings()]


def test_devices_below_dev_are_nobodys_business(tree: Path, findings: Findings) -> None:
    os.mknod(tree / "dev/null", 0o600 | 0o020000, os.makedev(1, 3))
    assert findings() == []


def test_composefs_is_wanted_where_libostree_has_it(tree: Path, findings: Findings) -> None:
    put(tree, f"{LIBRARIES}/libcomposefs.so.1")
    enable_composefs(tree)
    assert findings() == []


def test_an_architecture_that_is_not_ours_still_has_to_parse(
    tree: Path, findings: Findings
) -> None:
    put(tree, "usr/lib/bootc/kargs.d/a.toml", 'kargs = ["a"]\nmatch-architectures = ["s390x"]\n')
    assert findings() == []
    put(tree, "usr/lib/bootc/kargs.d/a.toml", 'kargs = ["a"]\nmatch-architectures = "s390x"\n')
    assert [found.lint for found in findings()] == ["bootc-kargs"]


def test_files_that_a_runtime_mounts_in_run_are_ignored(tree: Path, findings: Findings) -> None:
    put(tree, "run/systemd/resolve/stub-resolv.conf")
    assert findings() == []
    put(tree, "run/systemd/resolve/other")
    assert [found.paths for found in findings()] == [("/run/systemd",)]


def test_logs_without_content_are_kept_quiet_about(tree: Path, findings: Findings) -> None:
    put(tree, "var/log/app/empty.log", "")
    assert findings() == []


def test_tmpfiles_covers_links_copies_and_what_is_above(tree: Path, findings: Findings) -> None:
    for path in ("var/lib/a/b/c", "var/lib/copied/deep", "var/roothome/.ssh"):
        (tree / path).mkdir(parents=True)
    (tree / "var/lib/link").symlink_to("a")
    lines = (
        "d /var/lib/a/b/c 0755\nL+ /var/lib/link - - - - a\nC /var/lib/copied\nd /root/.ssh 0700\n"
    )
    put(tree, "etc/tmpfiles.d/b.conf", lines)
    assert findings() == []


def test_a_file_in_etc_replaces_tmpfiles_of_that_name(tree: Path, findings: Findings) -> None:
    (tree / "etc/tmpfiles.d").mkdir()
    (tree / "etc/tmpfiles.d/a.conf").symlink_to("/dev/null")
    assert ("var-tmpfiles", ("/var/home", "/var/log", "/var/roothome")) in [
        (found.lint, found.paths) for found in findings()
    ]


def test_package_lists_are_told_with_what_removes_them(tree: Path, findings: Findings) -> None:
    put(tree, "usr/lib/tmpfiles.d/apt.conf", "d /var/lib/apt/lists 0755\n")
    put(tree, "var/lib/apt/lists/mirror_InRelease")
    put(tree, "var/lib/apt/lists/lock", "")
    (found,) = findings()
    assert (found.lint, found.paths) == ("var-tmpfiles", ("/var/lib/apt/lists/mirror_InRelease",))
    assert "rm -rf /var/lib/apt/lists/*" in found.remedy
