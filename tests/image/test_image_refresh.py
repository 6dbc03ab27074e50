"""What image-refresh, a script in the image, does to a tree after packages changed in it."""

import importlib.util
import os
import py_compile
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

SCRIPT = Path(str(files("bootc_build").joinpath("data/image_root/usr/libexec/bootc/image-refresh")))
OLD, NEW, NEWEST = "6.12.9+deb13-cloud-amd64", "6.12.10+deb13-amd64", "6.12.100+deb13-amd64"
WORK = 10

# Stand-ins for the image's programs: they write down how they were called and do the least that counts.
PROGRAMS = {
    "dracut": 'for last; do :; done; echo "initramfs of $*" > "$last"',
    "depmod": ': > "$BOOTC_IMAGE_ROOT/usr/lib/modules/$1/modules.dep"',
    "apt-get": "",
}


@dataclass(frozen=True)
class Image:
    root: Path
    calls: Path
    programs: Path

    def refresh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "BOOTC_IMAGE_ROOT": str(self.root),
            "CALLS": str(self.calls),
        }
        return subprocess.run(
            [sys.executable, "-I", str(SCRIPT), *arguments],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    def ran(self, program: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(f"{program} ")]

    def write(self, name: str, text: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def add_kernel(self, version: str) -> None:
        """What a kernel package puts into an image."""
        self.write(f"usr/lib/modules/{version}/kernel/fs/ext4.ko", version)
        self.write(f"boot/vmlinuz-{version}", f"kernel {version}")
        self.write(f"boot/config-{version}")
        self.write(f"boot/System.map-{version}")
        self.add_package(f"linux-image-{version}", "1")

    def add_package(self, name: str, version: str) -> None:
        status = self.root / "usr/lib/sysimage/dpkg/status"
        with status.open("a") as file:
            file.write(f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n")

    def kernels(self) -> list[str]:
        return sorted(path.name for path in (self.root / "usr/lib/modules").iterdir())


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image with one kernel that was refreshed already."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{body}\n')
        program.chmod(0o755)
    made = Image(tmp_path / "root", tmp_path / "calls", programs)
    made.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    made.write("etc/group", "root:x:0:\n")
    made.write("usr/lib/sysusers.d/00-bootc-base.conf", "g root 0\nu root 0:root - /root /bin/sh\n")
    made.write("usr/lib/sysimage/dpkg/status")
    made.write("usr/lib/sysimage/dpkg/info/x")
    made.write("boot/grub/x")
    made.add_kernel(OLD)
    done = made.refresh()
    assert done.returncode == 0, done.stderr
    made.calls.unlink()
    return made


def test_a_refreshed_image_needs_nothing_more(image: Image) -> None:
    check = image.refresh("--check")
    assert (check.returncode, check.stdout) == (0, "")
    image.refresh()
    assert not image.calls.exists()


def test_the_kernel_lies_beside_its_modules_and_boot_is_empty(image: Image) -> None:
    modules = image.root / "usr/lib/modules" / OLD
    assert (modules / "vmlinuz").read_text() == f"kernel {OLD}"
    assert (modules / "initramfs.img").exists()
    assert (modules / "config").exists()
    assert list((image.root / "boot").iterdir()) == []


def test_a_kernel_that_was_added_replaces_the_one_that_was_there(image: Image) -> None:
    image.add_kernel(NEW)
    assert image.refresh("--check").returncode == WORK
    assert image.refresh().returncode == 0
    assert image.kernels() == [NEW]
    assert any(
        "purge --yes" in call and f"linux-image-{OLD}" in call for call in image.ran("apt-get")
    )
    assert NEW in (image.root / f"usr/lib/modules/{NEW}/initramfs.img").read_text()


def test_an_older_kernel_that_was_added_wins_too(image: Image) -> None:
    image.add_kernel("6.1.0-40-amd64")
    image.refresh()
    assert image.kernels() == ["6.1.0-40-amd64"]


def test_of_several_added_kernels_the_newest_stays(image: Image) -> None:
    image.add_kernel(NEWEST)
    image.add_kernel(NEW)
    image.refresh()
    assert image.kernels() == [NEWEST]


def test_the_same_kernel_built_anew_is_taken(image: Image) -> None:
    image.write(f"boot/vmlinuz-{OLD}", "rebuilt")
    assert image.refresh("--check").returncode == WORK
    image.refresh()
    assert (image.root / f"usr/lib/modules/{OLD}/vmlinuz").read_text() == "rebuilt"


@pytest.mark.parametrize(
    "name",
    [
        "etc/dracut.conf.d/mine.conf",
        "usr/lib/dracut/modules.d/50mine/module-setup.sh",
        "usr/lib/firmware/card.bin",
        "etc/crypttab",
        f"usr/lib/modules/{OLD}/updates/dkms/card.ko",
    ],
)
def test_the_initramfs_follows_what_it_is_made_of(image: Image, name: str) -> None:
    image.write(name, "new")
    assert "initramfs" in image.refresh("--check").stdout
    image.refresh()
    assert len(image.ran("dracut")) == 1
    assert image.refresh("--check").returncode == 0


def test_the_initramfs_follows_the_packages_in_it(image: Image) -> None:
    image.add_package("systemd", "258-1")
    assert "initramfs" in image.refresh("--check").stdout


def test_the_initramfs_ignores_packages_that_are_not_in_it(image: Image) -> None:
    image.add_package("nginx", "1.26-3")
    assert image.refresh("--check").returncode == 0


def test_a_failing_dracut_fails_the_refresh_and_leaves_no_half_initramfs(image: Image) -> None:
    (image.programs / "dracut").write_text("#!/bin/sh\necho module missing >&2\nexit 1\n")
    image.write("etc/dracut.conf.d/mine.conf", 'add_dracutmodules+=" nonsense "')
    before = (image.root / f"usr/lib/modules/{OLD}/initramfs.img").read_text()
    done = image.refresh()
    assert done.returncode == 1
    assert "module missing" in done.stderr
    assert (image.root / f"usr/lib/modules/{OLD}/initramfs.img").read_text() == before
    assert image.refresh("--check").returncode == WORK


def compiled(source: Path) -> bytes:
    return Path(importlib.util.cache_from_source(str(source))).read_bytes()


def test_python_files_get_unchecked_hashes(image: Image) -> None:
    source = image.write("usr/lib/python3/dist-packages/mine.py", "x = 1\n")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    assert image.refresh("--check").returncode == WORK
    image.refresh()
    assert int.from_bytes(compiled(source)[4:8], "little") == 1
    assert image.refresh("--check").returncode == 0


def test_a_replaced_python_file_is_compiled_again(image: Image) -> None:
    source = image.write("usr/lib/python3/dist-packages/mine.py", "x = 1\n")
    image.refresh()
    source.write_text("x = 2\n")
    assert image.refresh("--check").returncode == WORK
    image.refresh()
    assert compiled(source)[8:16] == importlib.util.source_hash(b"x = 2\n")


def test_a_python_file_that_is_none_is_not_work_for_ever(image: Image) -> None:
    image.write("usr/lib/python3/dist-packages/template.py", "{% this is a template %}\n")
    image.refresh()
    assert image.refresh("--check").returncode == 0


def test_users_that_packages_made_get_fixed_ids(image: Image) -> None:
    with (image.root / "etc/passwd").open("a") as file:
        file.write("postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n")
    with (image.root / "etc/group").open("a") as file:
        file.write("postgres:x:104:\n")
    assert "sysusers" in image.refresh("--check").stdout
    image.refresh()
    text = (image.root / "usr/lib/sysusers.d/01-bootc-packages.conf").read_text()
    assert "g postgres 104\n" in text
    assert 'u postgres 101:postgres "PostgreSQL,,," /var/lib/postgresql /bin/bash\n' in text
    assert image.refresh("--check").returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "etc/ssh/ssh_host_rsa_key",
        "var/lib/dbus/machine-id",
        "boot/initrd.img-6.1.0",
    ],
)
def test_what_a_build_leaves_behind_goes(image: Image, name: str) -> None:
    path = image.write(name, "litter")
    assert f"/{name}" in image.refresh("--check").stdout
    image.refresh()
    assert not path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "usr/lib/sysimage/dpkg/status-old",
        "var/cache/apt/archives/x_1_amd64.deb",
        "var/lib/apt/lists/mirror_dists_trixie_InRelease",
        "var/log/dpkg.log",
        "var/log/apt/history.log",
    ],
)
def test_what_apt_leaves_is_no_work_by_itself_but_goes_with_the_rest(
    image: Image, name: str
) -> None:
    path = image.write(name, "litter")
    assert image.refresh("--check").returncode == 0
    image.refresh()
    assert not path.exists()


def test_an_image_without_a_kernel_is_left_to_lint(image: Image) -> None:
    for path in sorted((image.root / "usr/lib/modules").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert image.refresh().returncode == 0


def test_unknown_arguments_are_refused_with_the_usage(image: Image) -> None:
    done = image.refresh("--frobnicate")
    assert done.returncode == 2
    assert "--check" in done.stderr
