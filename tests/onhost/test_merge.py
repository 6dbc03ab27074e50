"""The merge of layers, against a naive model that applies each layer to a flat list of paths."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.ostree.merge import LayerContent, merge_layers
from bootc_build.onhost.ostree.tree import Directory

NAMES = "abc"
EMPTY = "empty-file"


class MemoryStore:
    """Directories in a dictionary; counts how many are written."""

    def __init__(self) -> None:
        self.directories: dict[str, Directory] = {}
        self.written = 0

    def load_directory(self, checksum: str) -> Directory:
        return self.directories[checksum]

    def write_directory(self, directory: Directory) -> str:
        self.written += 1
        checksum = f"tree:{sorted(directory.files.items())}{sorted(directory.dirs.items())}"
        self.directories[checksum] = directory
        return checksum

    def is_empty_file(self, checksum: str) -> bool:
        return checksum == EMPTY


@dataclass
class Folder:
    """A directory of a layer; ``meta`` None: the layer has no entry for it."""

    entries: "dict[str, str | Folder]" = field(default_factory=dict)
    whiteouts: frozenset[str] = frozenset()
    opaque: bool = False
    meta: str | None = None


folders = st.recursive(
    st.builds(Folder, meta=st.sampled_from([None, "m1", "m2"])),
    lambda inner: st.builds(
        Folder,
        st.dictionaries(st.sampled_from(NAMES), st.one_of(st.sampled_from(["x", "y"]), inner)),
        st.frozensets(st.sampled_from(NAMES), max_size=2),
        st.booleans(),
        st.sampled_from([None, "m1", "m2"]),
    ),
    max_leaves=8,
)


def store_layer(store: MemoryStore, root: Folder) -> LayerContent:
    implied: set[str] = set()

    def write(folder: Folder, path: str) -> tuple[str, str]:
        if folder.meta is None:
            implied.add(path)
        files = {f".wh.{name}": "whiteout" for name in folder.whiteouts}
        if folder.opaque:
            files[".wh..wh..opq"] = "whiteout"
        dirs = {}
        for name, entry in folder.entries.items():
            if isinstance(entry, str):
                files[name] = entry
            else:
                dirs[name] = write(entry, f"{path}/{name}" if path else name)
        return store.write_directory(Directory(files, dirs)), folder.meta or "default"

    tree, meta = write(root, "")
    return LayerContent("a layer", tree, meta, frozenset(implied))


Flat = dict[str, tuple[str, str]]


def remove(flat: Flat, gone: str) -> None:
    for known in [path for path in flat if path == gone or path.startswith(gone + "/")]:
        del flat[known]


def apply_removals(flat: Flat, folder: Folder, path: str) -> None:
    if folder.opaque:
        for known in [known for known in flat if known.startswith(path + "/")]:
            del flat[known]
    for name in folder.whiteouts:
        remove(flat, f"{path}/{name}")
    for name, entry in folder.entries.items():
        if isinstance(entry, Folder):
            apply_removals(flat, entry, f"{path}/{name}")


def apply_additions(flat: Flat, folder: Folder, path: str) -> None:
    kind, _ = flat.get(path, ("", ""))
    if kind == "file":
        remove(flat, path)
    if kind != "dir" or folder.meta is not None:
        flat[path] = ("dir", folder.meta or "default")
    for name, entry in folder.entries.items():
        below = f"{path}/{name}"
        if isinstance(entry, Folder):
            apply_additions(flat, entry, below)
        else:
            remove(flat, below)
            flat[below] = ("file", entry)


def apply_naively(flat: Flat, folder: Folder) -> None:
    apply_removals(flat, folder, "")
    apply_additions(flat, folder, "")


def flatten(store: MemoryStore, tree: str, meta: str, path: str = "") -> Flat:
    directory = store.load_directory(tree)
    flat: Flat = {path: ("dir", meta)}
    for name, content in directory.files.items():
        flat[f"{path}/{name}"] = ("file", content)
    for name, (subtree, submeta) in directory.dirs.items():
        assert name not in directory.files
        flat.update(flatten(store, subtree, submeta, f"{path}/{name}"))
    return flat


@settings(deadline=None)
@given(st.lists(folders, min_size=1, max_size=4))
def test_merge_is_what_applying_each_layer_gives(layers: list[Folder]) -> None:
    store = MemoryStore()
    expected: Flat = {}
    for layer in layers:
        apply_naively(expected, layer)
    merged = merge_layers(store, [store_layer(store, layer) for layer in layers])
    assert flatten(store, *merged) == expected


def merged_paths(*layers: Folder | LayerContent, store: MemoryStore | None = None) -> Flat:
    store = store or MemoryStore()
    contents = [
        layer if isinstance(layer, LayerContent) else store_layer(store, layer) for layer in layers
    ]
    return flatten(store, *merge_layers(store, contents))


def test_a_directory_that_only_one_layer_has_is_taken_over_unread() -> None:
    store = MemoryStore()
    deep = Folder({"a": Folder({"b": Folder({"c": "x"})})})
    lower = store_layer(store, Folder({"lower": deep}))
    upper = store_layer(store, Folder({"upper": Folder({"c": "y"})}))
    store.written = 0
    merge_layers(store, [lower, upper])
    assert store.written == 1  # the root alone


def test_a_hard_link_to_a_lower_layer_gets_its_content() -> None:
    store = MemoryStore()
    lower = store_layer(store, Folder({"a": Folder({"b": "x"})}))
    upper = store_layer(store, Folder({"a": Folder(whiteouts=frozenset("b")), "c": Folder()}))
    linked = LayerContent("", upper.tree, upper.meta, upper.implied, {"c/l": "a/b"})
    paths = merged_paths(lower, linked, store=store)
    assert paths["/c/l"] == ("file", "x")
    assert "/a/b" not in paths


def test_a_hard_link_to_nothing_is_refused() -> None:
    store = MemoryStore()
    layer = store_layer(store, Folder())
    linked = LayerContent("Layer 1", layer.tree, layer.meta, hardlinks={"c": "a/b"})
    with pytest.raises(UserError, match="'c': is a hard link to 'a/b'"):
        merge_layers(store, [layer, linked])


def test_buildahs_empty_mount_points_go_but_real_content_stays() -> None:
    etc = Folder({"hostname": EMPTY, "resolv.conf": "x"})
    paths = merged_paths(Folder({"usr": Folder({"etc": etc})}))
    assert "/usr/etc/hostname" not in paths
    assert paths["/usr/etc/resolv.conf"] == ("file", "x")
