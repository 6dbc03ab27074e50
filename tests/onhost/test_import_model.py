"""Reading tars and merging them, against a naive model that applies each tar to a list of paths."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from bootc_build.onhost.oci.tarstream import TarReader
from bootc_build.onhost.ostree.importer import Layer, LayerTree
from bootc_build.onhost.ostree.merge import LayerContent, merge_layers
from bootc_build.onhost.ostree.tree import Directory
from tests.onhost.oci_images import Dir, Entry, File, Link, Symlink, tar_of

Thing = tuple[str, object]
Flat = dict[str, Thing]

NAMES = st.sampled_from(["a", "b", "etc"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MODES = st.sampled_from([0o755, 0o700, 0o1777])


class MemoryObjects:
    """What `LayerTree` and `merge_layers` need of a store, in dictionaries."""

    def __init__(self) -> None:
        self.directories: dict[str, Directory] = {}
        self.things: dict[str, Thing] = {}
        self.commit: tuple[str, str, Mapping[str, object]] = ("", "", {})

    def _keep(self, kind: str, value: object) -> str:
        checksum = f"{kind}:{value}"
        self.things[checksum] = (kind, value)
        return checksum

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        return self._keep("file", (uid, gid, mode, dict(xattrs), data))

    def write_symlink(self, uid: int, gid: int, xattrs: Mapping[bytes, bytes], target: str) -> str:
        return self._keep("link", (uid, gid, dict(xattrs), target))

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes]) -> str:
        return self._keep("dir", (uid, gid, mode, dict(xattrs)))

    def write_directory(self, directory: Directory) -> str:
        checksum = f"tree:{sorted(directory.files.items())}{sorted(directory.dirs.items())}"
        self.directories[checksum] = directory
        return checksum

    def load_directory(self, checksum: str) -> Directory:
        return self.directories[checksum]

    def is_empty_file(self, _checksum: str) -> bool:
        return False

    def write_commit(
        self, tree: str, meta: str, metadata: Mapping[str, object], timestamp: int
    ) -> str:
        assert timestamp == 0
        self.commit = tree, meta, metadata
        return "commit"

    def flat(self, tree: str, meta: str, path: str = "") -> Flat:
        directory = self.directories[tree]
        found: Flat = {path: self.things[meta]}
        for name, content in directory.files.items():
            found[f"{path}/{name}"] = self.things[content]
        for name, (subtree, submeta) in directory.dirs.items():
            assert name not in directory.files
            found.update(self.flat(subtree, submeta, f"{path}/{name}"))
        return found


class Model:
    """Layers applied one after the other to paths; slow, and plainly what the specification says."""

    def __init__(self) -> None:
        self.paths: Flat = {"": ("dir", (0, 0, 0o755, {}))}

    def remove(self, path: str) -> None:
        for known in [p for p in self.paths if p == path or p.startswith(path + "/")]:
            del self.paths[known]

    def parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if self.paths.get(parent, ("",))[0] != "dir":
            self.parents(parent)
            self.remove(parent)
            self.paths[parent] = ("dir", (0, 0, 0o755, {}))

    @staticmethod
    def place(path: str) -> str:
        return (
            "/usr/" + path if path.split("/", maxsplit=1)[0] in ("etc", ".wh.etc") else "/" + path
        )

    def apply(self, entries: list[Entry]) -> None:
        below = dict(self.paths)
        for entry in entries:
            folder, _slash, name = self.place(entry.path).rpartition("/")
            if name == ".wh..wh..opq":
                for known in [p for p in self.paths if p.startswith(folder + "/")]:
                    del self.paths[known]
            elif name.startswith(".wh."):
                self.remove(f"{folder}/{name[4:]}")
        own: Flat = {}
        for entry in entries:
            path = self.place(entry.path)
            self.parents(path)
            if not path.rpartition("/")[2].startswith(".wh."):
                self.add(entry, path, own, below)

    def add(self, entry: Entry, path: str, own: Flat, below: Flat) -> None:
        if isinstance(entry, Dir):
            if self.paths.get(path, ("",))[0] != "dir":
                self.remove(path)
            self.paths[path] = ("dir", (entry.uid, entry.gid, entry.mode, {}))
            return
        self.remove(path)
        if isinstance(entry, Link):
            target = self.place(entry.target)
            thing = own[target] if target in own else below[target]
        elif isinstance(entry, Symlink):
            thing = ("link", (entry.uid, entry.gid, {}, entry.target))
        else:
            assert isinstance(entry, File)
            thing = ("file", (entry.uid, entry.gid, entry.mode, {}, entry.data))
        self.paths[path] = own[path] = thing


def clashes(path: str, entries: list[Entry]) -> bool:
    """Whether a layer has the path already, or something that excludes it: no tool writes such."""
    return any(
        entry.path == path
        or entry.path.startswith(path + "/")
        or (path.startswith(entry.path + "/") and not isinstance(entry, Dir))
        for entry in entries
    )


@st.composite
def entries_of(draw: st.DrawFn, path: str, files: list[str]) -> Entry | None:
    kind = draw(st.sampled_from(["file", "dir", "link", "hard", "whiteout", "opaque"]))
    folder, slash, name = path.rpartition("/")
    match kind:
        case "file":
            return File(path, mode=draw(MODES), data=draw(st.binary(max_size=2)))
        case "dir":
            return Dir(path, mode=draw(MODES), uid=draw(st.integers(0, 1)))
        case "link":
            return Symlink(path, target=draw(NAMES))
        case "whiteout":
            return File(f"{folder}{slash}.wh.{name}")
        case "opaque":
            return File(path + "/.wh..wh..opq")
        case _:
            target = draw(st.sampled_from(files)) if files else ""
            return Link(path, target=target.removeprefix("/")) if target else None


@st.composite
def stacks(draw: st.DrawFn) -> list[list[Entry]]:
    """Layers of entries; hard links lead to what is there."""
    model, layers = Model(), []
    for _ in range(draw(st.integers(1, 3))):
        entries: list[Entry] = []
        files = [path for path, thing in model.paths.items() if thing[0] != "dir"]
        for path in draw(st.lists(PATHS, max_size=6)):
            made = None if clashes(path, entries) else draw(entries_of(path, files))
            if made is not None:
                entries.append(made)
        model.apply(entries)
        layers.append(entries)
    return layers


@settings(max_examples=300, deadline=None)
@given(stacks())
def test_reading_and_merging_tars_is_applying_them_one_after_the_other(
    layers: list[list[Entry]],
) -> None:
    store, model, contents = MemoryObjects(), Model(), []
    for entries in layers:
        model.apply(entries)
        tar, layer = iter([tar_of(entries)]), Layer("sha256:" + "0" * 64, "")
        tree = LayerTree(store, layer)  # type: ignore[arg-type]
        reader = TarReader(lambda tar=tar: next(tar, b""))  # type: ignore[misc]
        for entry in reader.entries():
            tree.add(reader, entry)
        tree.write()
        root, meta, metadata = store.commit
        implied, links, whiteouts = (
            metadata[f"bootc.layer.{key}"][1]  # type: ignore[index]
            for key in ("implied", "hardlinks", "whiteouts")
        )
        contents.append(LayerContent("", root, meta, frozenset(implied), links, whiteouts))
    assert store.flat(*merge_layers(store, contents)) == model.paths
