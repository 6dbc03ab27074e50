import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.disk.plan import (
    BOOT_BYTES,
    DEFAULT_DISK_BYTES,
    Contents,
    Identity,
    Role,
    plan_disk,
    smallest_disk,
)
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB, parse_size

IDENTITY = Identity.derive("sha256:" + "a" * 64, {"size": None})
CONTENTS = Contents(root=400 * MIB, boot=40 * MIB, esp=5 * MIB)


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


def test_default_disk_is_ten_gib() -> None:
    assert plan_disk(IDENTITY, CONTENTS, timestamp=0).size == DEFAULT_DISK_BYTES


def test_default_disk_grows_so_that_two_versions_fit() -> None:
    contents = Contents(root=20 * GIB)
    assert plan_disk(IDENTITY, contents, timestamp=0).size > 2 * contents.root


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
