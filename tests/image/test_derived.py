"""Derived images with the real buildah, on a base of a few files."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootc_build.image.derived import BuildRequest, build_image
from bootc_build.image.lint import LintError, instruction, lint_image
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.tools.buildah import inspect_image
from bootc_build.tools.podman import image_store

REFRESH = """#!/bin/busybox sh
if [ "$1" = --check ]; then [ -e /usr/lib/package ] && [ ! -e /usr/lib/fresh ] && exit 10; exit 0; fi
echo refreshing
busybox touch /usr/lib/fresh
"""


class Recorder(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.details: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Storage of these tests' own: what is left in it was left by them."""
    folder = tmp_path_factory.mktemp("storage")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_storage(folder / "store", folder / "storage.conf", monkeypatch)
        yield folder / "store"
    # The storage library mounts its folder on itself and leaves it so.
    run(["umount", "--quiet", str(folder / "store/graph/overlay")], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def use_storage(place: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))


@pytest.fixture
def tag() -> str:
    return f"localhost/derived-{secrets.token_hex(6)}:v1"


@pytest.fixture(scope="module")
def base(
    storage: Path,  # noqa: ARG001 - where it goes
    plant_tree: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """An image that lints accept, with busybox as its shell, and no labels."""
    name = "localhost/base:v1"
    folder = tmp_path_factory.mktemp("base")
    tree = plant_tree(folder / "root")
    busybox = shutil.which("busybox")
    assert busybox is not None
    for link in ("busybox", "sh"):
        shutil.copy(busybox, tree / "usr/bin" / link)
    script = tree / "usr/libexec/bootc/image-refresh"
    script.parent.mkdir(parents=True)
    script.write_text(REFRESH)
    script.chmod(0o755)
    (folder / "Containerfile").write_text("FROM scratch\nCOPY . /\n")
    run(
        ["buildah", "build", "--layers", "-f", str(folder / "Containerfile"), "-t", name, str(tree)]
    )
    return name


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def request(context: Path, tag: str, text: str, *flags: str, **more: object) -> BuildRequest:
    (context / "Containerfile").write_text(text)
    return BuildRequest(
        tags=(tag,),
        context=str(context),
        flags=("--layers", "--pull=false", *flags),
        **more,  # type: ignore[arg-type]
    )


def exists(name: str) -> bool:
    with image_store() as store:
        return store.exists(name)


def containers() -> set[str]:
    return set(run(["buildah", "containers", "--quiet"]).stdout.split())


def test_an_image_gets_labels_and_its_name(base: str, context: Path, tag: str) -> None:
    asked = request(context, tag, f"FROM {base}\nRUN echo one > /usr/lib/one\n")
    built = build_image(asked, Silent())
    assert not built.report.findings
    with image_store() as store:
        found = store.get(tag)
    assert found.id == built.image
    assert found.labels["containers.bootc"] == "1"
    assert found.labels["ostree.bootable"] == "1"


def test_inherited_labels_cost_no_further_layer(base: str, context: Path, tag: str) -> None:
    text = f"FROM {base}\nLABEL containers.bootc=1 ostree.bootable=1\nRUN echo 1 > /usr/lib/one\n"
    build_image(request(context, tag, text), Silent())
    with image_store() as store:
        assert len(store.get(tag).layers) == 2


def test_flags_reach_buildah(base: str, context: Path, tag: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("word")
    text = (
        f"FROM {base} AS first\nARG VERSION=0\n"
        "RUN --mount=type=secret,id=word cat /run/secrets/word > /usr/lib/word; "
        "echo ${VERSION} > /usr/lib/version\n"
        f"FROM {base} AS second\nRUN echo second > /usr/lib/version\n"
    ).replace("cat ", "busybox cat ")
    flags = ("--build-arg=VERSION=7", "--target=first", "--label=a=b")
    secret = f"--secret=id=word,src={tmp_path / 'secret'}"
    id_file = tmp_path / "id"
    built = build_image(request(context, tag, text, *flags, secret, id_file=id_file), Silent())
    assert id_file.read_text() == f"sha256:{built.image}"
    assert inspect_image(tag)["OCIv1"]["config"]["Labels"]["a"] == "b"
    mount = run(["podman", "image", "mount", built.image]).stdout.strip()
    try:
        assert Path(mount, "usr/lib/version").read_text() == "7\n"
        assert Path(mount, "usr/lib/word").read_text() == "word"
    finally:
        run(["podman", "image", "unmount", built.image])


def test_a_refused_image_leaves_the_old_one_its_name(base: str, context: Path, tag: str) -> None:
    first = build_image(request(context, tag, f"FROM {base}\n"), Silent())
    asked = request(context, tag, f"FROM {base}\nRUN busybox rm /usr/bin/bootc\n")
    with pytest.raises(LintError) as caught:
        build_image(asked, Silent())
    assert "bootc-binary" in caught.value.fact
    assert "/usr/bin/bootc" in caught.value.fact
    assert "Remedy: Build FROM a base image that has it" in caught.value.fact
    assert f"Nothing was tagged: '{tag}' is what it was before" in caught.value.remedy
    with image_store() as store:
        assert store.get(tag).id == first.image


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("rm -r /usr/lib/modules", "There is no kernel"),
        ("rm /usr/lib/modules/6.12.0-1-amd64/initramfs.img", "has no initramfs"),
        ("mkdir /usr/lib/modules/7 && busybox touch /usr/lib/modules/7/vmlinuz", "2 kernels"),
        ("mkfifo /usr/lib/fifo", "made by: RUN busybox mkfifo /usr/lib/fifo"),
    ],
)
def test_an_image_that_would_not_boot_is_refused_with_the_reason(
    base: str, context: Path, tag: str, step: str, said: str
) -> None:
    with pytest.raises(LintError) as caught:
        build_image(request(context, tag, f"FROM {base}\nRUN busybox {step}\n"), Silent())
    assert said in caught.value.fact
    assert not exists(tag)
    assert not containers()


def test_a_lint_can_be_left_out(base: str, context: Path, tag: str) -> None:
    asked = request(
        context,
        tag,
        f"FROM {base}\nRUN busybox rm /usr/bin/bootc\n",
        skip_lints=("bootc-binary",),
    )
    assert not build_image(asked, Silent()).report.findings
    assert exists(tag)


def test_warnings_can_be_made_fatal(base: str, context: Path, tag: str) -> None:
    text = f"FROM {base}\nRUN echo log > /var/log/app/a.log\n"
    assert [f.lint for f in build_image(request(context, tag, text), Silent()).report.findings] == [
        "var-log"
    ]
    with pytest.raises(LintError, match="var-log"):
        build_image(request(context, tag, text, warnings_are_fatal=True), Silent())


def test_changed_packages_are_followed_by_a_refresh_once(
    base: str, context: Path, tag: str
) -> None:
    asked = request(context, tag, f"FROM {base}\nRUN busybox touch /usr/lib/package\n")
    progress = Recorder()
    built = build_image(asked, progress)
    assert any(step.startswith("Refreshing") for step in progress.steps)
    assert "refreshing" in progress.details
    with image_store() as store:
        last = store.get(tag).history[-1]
    assert "image-refresh" in last.created_by
    assert not last.empty_layer
    again = Recorder()
    assert build_image(asked, again).image == built.image
    assert not any(step.startswith("Refreshing") for step in again.steps)


def test_steps_are_shown_as_they_begin(base: str, context: Path, tag: str) -> None:
    progress = Recorder()
    build_image(request(context, tag, f"FROM {base}\nRUN echo said > /dev/stderr\n"), progress)
    assert progress.steps[:2] == [
        f"STEP 1/2: FROM {base}",
        "STEP 2/2: RUN echo said > /dev/stderr",
    ]
    assert "said" in progress.details


def test_a_failed_step_is_named_with_what_it_said(base: str, context: Path, tag: str) -> None:
    text = f"FROM {base}\nRUN echo before\nRUN echo no such package >&2; exit 9\n"
    with pytest.raises(UserError) as caught:
        build_image(request(context, tag, text), Silent())
    assert "failed at STEP 3/3: RUN echo no such package" in caught.value.fact
    assert "no such package\n" in caught.value.fact
    assert "before" not in caught.value.fact.splitlines()
    assert not containers()


def test_a_local_base_that_is_missing_is_named_at_once(context: Path, tag: str) -> None:
    asked = request(context, tag, "FROM localhost/bootc-build-test/nowhere:v9\n")
    with pytest.raises(UserError) as caught:
        build_image(asked, Silent())
    assert caught.value.fact.startswith(
        "The base image 'localhost/bootc-build-test/nowhere:v9' is not in local storage."
    )
    assert "bootc-build base -t localhost/bootc-build-test/nowhere:v9" in caught.value.remedy


def test_a_registry_that_does_not_answer_is_told_with_the_base(context: Path, tag: str) -> None:
    asked = request(context, tag, "FROM 127.0.0.1:1/nowhere:v9\n", "--pull=never")
    with pytest.raises(UserError, match=r"'127\.0\.0\.1:1/nowhere:v9' is not in local storage"):
        build_image(asked, Silent())


def test_a_missing_containerfile_or_context_is_a_usage_error(context: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="There is no Containerfile in"):
        build_image(BuildRequest((tag,), context=str(context)), Silent())
    with pytest.raises(UsageError, match="'nope' does not exist"):
        build_image(BuildRequest((tag,), ("nope",), str(context)), Silent())
    with pytest.raises(UsageError, match="The context '/nowhere/at/all' does not exist"):
        build_image(BuildRequest((tag,), context="/nowhere/at/all"), Silent())
    with pytest.raises(UsageError, match="no lint named 'nope'"):
        build_image(BuildRequest((tag,), context=str(context), skip_lints=("nope",)), Silent())


def test_a_full_disk_is_named(
    context: Path, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)])
    try:
        use_storage(small, tmp_path / "small.conf", monkeypatch)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        (context / "large").write_bytes(os.urandom(6_000_000))
        with pytest.raises(UserError, match="The disk is full") as caught:
            build_image(request(context, tag, "FROM scratch\nCOPY large /large\n"), Silent())
        assert "podman image prune" in caught.value.remedy
    finally:
        run(["umount", "--lazy", str(small)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(
    base: str, context: Path, tag: str, storage: Path, number: signal.Signals
) -> None:
    word = secrets.token_hex(6)
    (context / "Containerfile").write_text(
        f"FROM {base}\nRUN echo {word}; busybox sleep 1234{os.getpid()}\n"
    )
    command = [sys.executable, "-m", "bootc_build.cli.main", "image", "-v", "-t", tag, str(context)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == word:
                break
        assert containers()
        process.send_signal(number)
        said = process.stderr.read()
        status = process.wait(30)
    assert status == (130 if number == signal.SIGINT else 143)
    assert "Traceback" not in said
    assert not containers()
    assert f"{storage}/graph/overlay/" not in Path("/proc/self/mounts").read_text()
    assert not any(
        f"1234{os.getpid()}".encode() in path.read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    )
    assert not exists(tag)


def test_an_image_that_is_not_there_cannot_be_linted() -> None:
    with pytest.raises(UserError, match="'bootc-build-test/nowhere:v2' is not in local storage"):
        lint_image("bootc-build-test/nowhere:v2")


@pytest.mark.parametrize(
    ("created_by", "shown"),
    [
        ("/bin/sh -c #(nop) COPY file:619b in /f ", "COPY file:619b in /f"),
        ("/bin/sh -c apt-get update   && x", "RUN apt-get update && x"),
        ("|1 VERSION=1 /bin/sh -c echo ${VERSION}", "RUN echo ${VERSION}"),
        ("bootc-build base", "bootc-build base"),
        ("/bin/sh -c " + "x" * 200, "RUN " + "x" * 95 + "…"),
    ],
)
def test_history_lines_are_shown_as_instructions(created_by: str, shown: str) -> None:
    assert instruction(created_by) == shown
