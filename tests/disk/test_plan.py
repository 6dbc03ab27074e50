import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.disk import lvm
from bootc_build.disk.capacity import capacity
from bootc_build.disk.identity import Identity, Role
from bootc_build.disk.plan import MACHINE_BYTES, Contents, plan_disk, smallest_disk
from bootc_build.disk.wanted import BOOT_BYTES, Extra, Group, Layout
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB, parse_size

IDENTITY = Identity.derive("sha256:" + "a" * 64, {"size": None})
CONTENTS = Contents(root=400 * MIB, boot=40 * MIB, esp=5 * MIB)
FULL = Layout(
    esp_size=100 * MIB,
    boot_size=512 * MIB,
    swap_size=256 * MIB,
    extras=(
        Extra("/var/home", 2 * GIB, name="home"),
        Extra("/var/data", GIB, filesystem="btrfs", name="data"),
    ),
)


@given(root=st.integers(0, 400 * GIB), size=st.none() | st.integers(2 * GIB, 600 * GIB))
def test_partitions_are_aligned_ordered_and_never_overlap(root: int, size: int | None) -> None:
    try:
        plan = plan_disk(IDENTITY, Contents(root), timestamp=0, size=size)
    except UsageError:
        assert size is not None
        assert size < smallest_disk(Contents(root))
        return
    end = MIB
    for partition in plan.partitions:
        assert partition.start % MIB == 0
        assert partition.size % MIB == 0
        assert partition.size > 0
        assert partition.start >= end
        end = partition.start + partition.size
    assert end <= plan.size - MIB
    assert plan.partition(Role.ROOT).size > root


TIB = 1024 * GIB


@pytest.mark.parametrize(
    ("size", "layout"),
    [
        (65 * TIB, Layout()),
        (None, Layout(minimum=2**70)),
        (None, Layout(updates=5_000_000_000)),
        (None, Layout(extras=(Extra("/var/x", 65 * TIB),))),
        (GIB, Layout(root_size=65 * TIB)),
    ],
)
def test_a_disk_that_no_file_system_would_take_is_refused(size: int | None, layout: Layout) -> None:
    with pytest.raises(UsageError, match="more than can be made here: 64 TiB"):
        plan_disk(IDENTITY, CONTENTS, timestamp=0, size=size, layout=layout)
    assert plan_disk(IDENTITY, CONTENTS, timestamp=0, size=64 * TIB).size == 64 * TIB


@pytest.mark.parametrize("filesystem", ["ext4", "btrfs", "xfs"])
@pytest.mark.parametrize("updates", [0, 1, 5])
@pytest.mark.parametrize("root", [MIB, 400 * MIB, 20 * GIB])
def test_default_disk_holds_the_image_and_so_many_updates_and_hardly_more(
    root: int, updates: int, filesystem: str
) -> None:
    layout = Layout(filesystem=filesystem, updates=updates)
    plan = plan_disk(IDENTITY, Contents(root), timestamp=0, layout=layout)
    held = capacity(filesystem, plan.partition(Role.ROOT).size)
    wanted = root * (1 + updates) + MACHINE_BYTES
    assert wanted <= held <= wanted * 1.07 + 70 * MIB


def test_root_is_last_and_marked_to_grow_unless_its_size_is_said() -> None:
    growing = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=FULL)
    assert growing.partitions[-1].role is Role.ROOT
    assert growing.partitions[-1].attributes == (59,)
    fixed = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=replace(FULL, root_size=2 * GIB))
    assert fixed.partition(Role.ROOT).size == 2 * GIB
    assert fixed.partition(Role.ROOT).attributes == ()


def test_further_partitions_have_their_sizes_names_and_types() -> None:
    plan = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=FULL)
    assert [(part.name, part.size, str(part.type_guid)[:8]) for part in plan.partitions[:-1]] == [
        ("bios-boot", MIB, "21686148"),
        ("esp", 100 * MIB, "c12a7328"),
        ("boot", 512 * MIB, "0fc63daf"),
        ("swap", 256 * MIB, "0657fd6d"),
        ("home", 2 * GIB, "0fc63daf"),
        ("data", GIB, "0fc63daf"),
    ]
    assert len({part.guid for part in plan.partitions}) == len(plan.partitions)


def test_a_minimum_makes_disk_or_root_larger_and_never_smaller() -> None:
    plain = plan_disk(IDENTITY, CONTENTS, timestamp=0)
    assert plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=Layout(minimum=MIB)) == replace(
        plain, layout=Layout(minimum=MIB)
    )
    large = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=Layout(minimum=50 * GIB))
    assert large.size == 50 * GIB
    root = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=Layout(root_minimum=50 * GIB))
    assert root.partition(Role.ROOT).size == 50 * GIB


VOLUMES = Layout(
    swap_size=100 * MIB,
    extras=(Extra("/var/data", GIB + 1, volume="data"), Extra("/var/home", GIB, name="home")),
    group=Group("vg", root="system", swap="swap"),
)


@given(root=st.integers(0, 40 * GIB), size=st.none() | st.integers(4 * GIB, 100 * GIB))
def test_volumes_lie_in_whole_extents_inside_their_partition(root: int, size: int | None) -> None:
    try:
        plan = plan_disk(IDENTITY, Contents(root), timestamp=0, size=size, layout=VOLUMES)
    except UsageError:
        assert size is not None
        assert size < smallest_disk(Contents(root), VOLUMES)
        return
    place = plan.partition(Role.VOLUMES)
    assert place is plan.partitions[-1]
    assert place.start + place.size <= plan.size - MIB
    assert [each.volume for each in plan.volumes] == ["swap", "data", "system"]
    end = place.start + lvm.DATA_START
    for volume in plan.volumes:
        assert volume.start == end
        assert volume.size % lvm.EXTENT == 0
        end = volume.start + volume.size
    assert place.start + place.size - lvm.EXTENT < end <= place.start + place.size
    assert plan.partition(Role.ROOT).size > root
    assert len({each.number for each in plan.places}) == len(plan.places)


def test_a_group_without_the_root_is_as_large_as_said_and_the_root_still_grows() -> None:
    layout = replace(VOLUMES, group=Group("vg", minimum=5 * GIB), swap_size=0)
    plan = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=layout)
    assert plan.partition(Role.VOLUMES).size == 5 * GIB
    assert plan.partitions[-1].role is Role.ROOT
    assert plan.partitions[-1].attributes
    assert plan.partition(Role.VOLUMES).attributes == ()
    assert plan.places[-1].role is Role.ROOT
    [data] = plan.volumes
    assert data.size == GIB + lvm.EXTENT


def test_a_volume_of_the_root_with_a_size_leaves_the_rest_of_the_group_free() -> None:
    layout = replace(VOLUMES, root_size=2 * GIB)
    plan = plan_disk(IDENTITY, CONTENTS, timestamp=0, size=20 * GIB, layout=layout)
    assert plan.partition(Role.ROOT).size == 2 * GIB
    assert plan.partition(Role.VOLUMES).size > 15 * GIB
    assert plan.partition(Role.VOLUMES).attributes == ()


def test_the_partition_of_a_volume_of_the_root_is_last_and_marked_to_grow() -> None:
    plan = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=VOLUMES)
    assert plan.partitions[-1].role is Role.VOLUMES
    assert [each.attributes for each in plan.partitions[-2:]] == [(), (59,)]


# Layout and contents that do not fit, and what is said.
TOO_SMALL = {
    "kernels": (Layout(boot_size=64 * MIB), CONTENTS, "/boot", "boot.size"),
    "root": (Layout(root_size=300 * MIB), CONTENTS, "the root", "root.size"),
    "boot loader": (
        Layout(esp_size=66 * MIB),
        Contents(0, esp=64 * MIB),
        "boot loader",
        "esp.size",
    ),
    "FAT32": (Layout(esp_size=32 * MIB), Contents(0), "too small for FAT32", "66 MiB"),
    "home": (
        Layout(extras=(Extra("/var/home", 64 * MIB),)),
        Contents(0, extras={"/var/home": 100 * MIB}),
        "/var/home",
        "filesystems",
    ),
    "btrfs": (
        Layout(extras=(Extra("/var/home", 64 * MIB, "btrfs"),)),
        Contents(0),
        "256 MiB of btrfs",
        "filesystems",
    ),
}


@pytest.mark.parametrize(("layout", "contents", "said", "key"), TOO_SMALL.values(), ids=TOO_SMALL)
def test_what_does_not_fit_is_named_with_the_key_to_change(
    layout: Layout, contents: Contents, said: str, key: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        plan_disk(IDENTITY, contents, timestamp=0, layout=layout)
    assert key in refused.value.remedy


def test_too_small_a_disk_says_what_is_needed_and_that_size_works() -> None:
    with pytest.raises(UsageError, match=r"1 GiB is too small") as refused:
        plan_disk(IDENTITY, CONTENTS, timestamp=0, size=GIB)
    advised = re.search(r"--size (\S+)", refused.value.remedy)
    assert advised
    plan_disk(IDENTITY, CONTENTS, timestamp=0, size=parse_size(advised[1]))


def test_kernels_that_do_not_fit_in_boot_are_refused() -> None:
    with pytest.raises(UsageError, match="/boot"):
        plan_disk(IDENTITY, Contents(root=0, boot=BOOT_BYTES), timestamp=0)


def test_same_image_and_configuration_have_the_same_identifiers() -> None:
    again = Identity.derive("sha256:" + "a" * 64, {"size": None})
    assert plan_disk(again, CONTENTS, timestamp=7) == plan_disk(IDENTITY, CONTENTS, timestamp=7)


@pytest.mark.parametrize(
    "other",
    [
        Identity.derive("sha256:" + "b" * 64, {"size": None}),
        Identity.derive("sha256:" + "a" * 64, {"size": 1}),
    ],
)
def test_another_image_or_configuration_has_other_identifiers(other: Identity) -> None:
    mine, theirs = (
        {part.guid for part in plan_disk(identity, CONTENTS, timestamp=0).partitions}
        | {identity.boot_uuid, identity.root_uuid, identity.esp_serial}
        for identity in (IDENTITY, other)
    )
    assert len(mine) == 7
    assert not mine & theirs


def test_root_has_the_discoverable_partition_type_and_boot_has_not() -> None:
    plan = plan_disk(IDENTITY, CONTENTS, timestamp=0)
    assert str(plan.partition(Role.ROOT).type_guid) == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    assert str(plan.partition(Role.BOOT).type_guid) == "0fc63daf-8483-4772-8e79-3d69d8477de4"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10G", 10 * GIB),
        ("10GiB", 10 * GIB),
        ("512m", 512 * MIB),
        ("1.5G", 1536 * MIB),
        ("4096", 4096),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "ten", "10X", "1e9", "10 G B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


def test_arm64_has_its_own_root_type_and_no_bios_boot_partition() -> None:
    plan = plan_disk(IDENTITY, CONTENTS, timestamp=0, layout=Layout(architecture="arm64"))
    assert [part.role for part in plan.partitions] == [Role.ESP, Role.BOOT, Role.ROOT]
    assert str(plan.partition(Role.ROOT).type_guid) == "b921b045-1df0-41c3-af44-4c6f280d3fae"
    assert plan.partitions[0].start == MIB
    assert plan.partitions[-1].start + plan.partitions[-1].size == plan.size - MIB
