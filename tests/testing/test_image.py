"""Images under test: built by the real buildah when they are needed, compared with what guests say."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.process import run
from bootc_build.testing import Image
from bootc_build.tools.buildah import image_names, working_container
from bootc_build.vm.guest_bootc import BootcCommand

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Storage and a cache of these tests' own."""
    folder = tmp_path_factory.mktemp("storage")
    settings = folder / "storage.conf"
    settings.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield
    # The storage library mounts its folder on itself and leaves it so.
    run(["umount", "--quiet", str(folder / "graph/overlay")], check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def base(
    storage: None,  # noqa: ARG001 - where it goes
    plant_tree: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Image:
    tree = plant_tree(tmp_path_factory.mktemp("base") / "root")
    busybox = shutil.which("busybox")
    assert busybox is not None
    for link in ("busybox", "sh"):
        shutil.copy(busybox, tree / "usr/bin" / link)
    with working_container("scratch") as container:
        shutil.copytree(tree, container.mount(), symlinks=True, dirs_exist_ok=True)
        container.commit("localhost/base:v1")
    return Image("localhost/base:v1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Containerfile").write_text(
        "ARG BASE\nFROM ${BASE}\nARG REV\nCOPY file /usr/share/file\n"
        'RUN echo "${REV}" > /usr/share/rev\n'
    )
    (tmp_path / "file").write_text("1")
    return tmp_path


def _image(project: Path, base: Image, rev: str) -> Image:
    return Image.build(project / "Containerfile", build_args={"BASE": base, "REV": rev})


def test_nothing_is_built_before_it_is_needed(tmp_path: Path) -> None:
    image = Image.build(tmp_path / "Containerfile", build_args={"REV": "1"})
    assert repr(image) == "Image(Containerfile, REV=1)"
    with pytest.raises(UsageError, match="does not exist"):
        _ = image.name


def test_relative_paths_start_at_the_folder_of_the_calling_file() -> None:
    with pytest.raises(UsageError, match=f"'{Path(__file__).parent}/nowhere/Containerfile'"):
        _ = Image.build("nowhere/Containerfile").name


def test_what_makes_an_image_is_called_once() -> None:
    calls: list[int] = []

    def make() -> str:
        calls.append(1)
        return "localhost/made:1"

    image = Image(make)
    assert calls == []
    assert (image.name, image.name) == ("localhost/made:1", "localhost/made:1")
    assert calls == [1]


def test_images_are_equal_that_have_the_same_content(project: Path, base: Image) -> None:
    one, two = _image(project, base, "1"), _image(project, base, "2")
    assert one == _image(project, base, "1")
    assert one == Image(one.id)
    assert one != two
    assert one != "1"
    assert len({one, two, Image(one.name)}) == 2


def test_the_context_is_the_folder_of_the_containerfile_unless_it_is_named(
    project: Path, base: Image
) -> None:
    other = project / "other"
    other.mkdir()
    (other / "file").write_text("another")
    args: dict[str, str | Image] = {"BASE": base, "REV": "1"}
    image = Image.build(project / "Containerfile", build_args=args, context=other)
    for found, text in ((image, "another"), (_image(project, base, "1"), "1")):
        with working_container(found.name) as container:
            assert (container.mount() / "usr/share/file").read_text() == text


def test_a_change_of_a_copied_file_makes_another_image_and_old_ones_go(
    project: Path, base: Image
) -> None:
    names = []
    for text in "12345":
        (project / "file").write_text(text)
        names.append(_image(project, base, "1").name)
    assert len(set(names)) == 5
    kept = image_names(names[0].rpartition(":")[0])
    assert len(kept) == 3
    assert names[-1] in kept


def test_parallel_test_processes_get_one_image(
    pytester: pytest.Pytester, project: Path, base: Image
) -> None:
    # A step that does something else each time: two builds would give two images.
    with (project / "Containerfile").open("a") as file:
        file.write("RUN busybox cat /proc/sys/kernel/random/uuid > /usr/share/random\n")
    pytester.makepyfile(
        f"""
        import pytest
        from bootc_build.testing import Image

        IMAGE = Image.build({str(project / "Containerfile")!r},
                            build_args={{"BASE": {base.name!r}, "REV": "1"}})

        @pytest.mark.parametrize("number", range(2))
        def test_it(number, worker_id):
            with open(f"{{__file__}}.{{worker_id}}", "w") as file:
                file.write(IMAGE.id)
        """
    )
    pytester.runpytest_subprocess("-n2", "--dist=each").assert_outcomes(passed=4)
    ids = [path.read_text() for path in pytester.path.glob("*.py.gw*")]
    assert len(ids) == 2
    assert len(set(ids)) == 1


class _PretendGuest:
    """Has one deployment, of the image with that id."""

    def __init__(self, identifier: str) -> None:
        self.commands: list[str] = []
        self._id = identifier

    def succeed(self, command: str) -> str:
        self.commands.append(command)
        if command.startswith("bootc status"):
            image = {"image": {"image": "registry.example/os:stable", "transport": "registry"}}
            booted = {"image": image, "ostree": {"checksum": "c0ffee", "deploySerial": 0}}
            return json.dumps({"status": {"booted": booted}})
        assert command.endswith(" c0ffee")
        config = {"digest": f"sha256:{self._id}", "mediaType": "x", "size": 1}
        return f"'{json.dumps({'config': config, 'layers': [], 'schemaVersion': 2})}'\n"


def test_a_deployed_image_is_compared_by_content_and_by_name(project: Path, base: Image) -> None:
    one, two = _image(project, base, "1"), _image(project, base, "2")
    guest = _PretendGuest(one.id)
    bootc = BootcCommand(guest)  # type: ignore[arg-type]
    assert bootc.booted.image == one
    assert one == bootc.booted.image
    assert bootc.booted.image != two
    assert bootc.booted.image == "registry.example/os:stable"
    assert sum(command.startswith("ostree show") for command in guest.commands) == 1
