"""The boot menu counts: the real GRUB on a disk that holds nothing else, a boot of which takes seconds."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pexpect
import pytest

from bootc_build.onhost.host.boot_count import format_block
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, MachineSpec
from test_vms.menu_disk import MenuTree, deployment

NEW, GOOD, OLD = deployment("b"), deployment("a"), deployment("c", 1)
_STARTS = re.compile(rb"STARTS /boot/ostree/(\w)/vmlinuz (\S*)\s")


@pytest.fixture
def tree(tmp_path: Path) -> MenuTree:
    return MenuTree(tmp_path / "tree")


@pytest.fixture
def machine_of(tmp_path: Path) -> Iterator[Callable[[MenuTree], Machine]]:
    """A machine that starts with a menu; off. It is too small to wait for a slot."""
    with ExitStack() as stack:

        def make(tree: MenuTree) -> Machine:
            disk = tmp_path / "disk"
            tree.make_disk(disk)
            spec = MachineSpec(
                (Disk.open(disk),), memory_mib=64, cpus=1, network=False, credentials=()
            )
            return stack.enter_context(Machine(spec))

        yield make


def put_counts(tree: MenuTree, **values: str) -> None:
    """What GRUB and the system have counted so far."""
    (tree.root / "boot/bootc.env").write_text(format_block(values))


def start(machine: Machine, entry: int | None = None) -> tuple[str, str]:
    """Turn the machine on: the letter of the deployment that starts, and what the menu adds to its arguments.

    Args:
        machine: off.
        entry: what somebody chooses in the menu.
    """
    machine.start()
    if entry is not None:
        machine.choose_menu_entry(entry, seconds=60)
    machine.console.expect([_STARTS], timeout=machine.seconds(60))
    found = machine.console.match
    assert isinstance(found, re.Match)
    machine.console.expect([pexpect.EOF], timeout=machine.seconds(60))
    machine.power_cut()
    return found[1].decode(), found[2].decode()


def test_a_new_deployment_has_three_tries_then_the_good_one_starts(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine]
) -> None:
    tree.write([NEW, GOOD])
    machine = machine_of(tree)
    assert [start(machine) for _ in range(5)] == [
        ("b", "bootc.trial=2"),
        ("b", "bootc.trial=1"),
        ("b", "bootc.trial=0"),
        ("a", "bootc.fellback=tries"),
        ("a", "bootc.fellback=tries"),
    ]
    # Somebody who chooses it gets it, and is not thrown out by a deadline.
    assert start(machine, 1) == ("b", "bootc.trial=manual")


@pytest.mark.long
def test_a_kernel_that_cannot_be_loaded_costs_one_try_and_no_reboot(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine]
) -> None:
    tree.write([NEW, OLD, GOOD], unloadable=(NEW,))
    put_counts(tree, bootc_good=GOOD)
    machine = machine_of(tree)
    # Not the second entry, but the good one.
    assert start(machine) == ("a", "bootc.fellback=kernel")


@pytest.mark.long
def test_a_good_deployment_is_not_counted(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine]
) -> None:
    tree.write([GOOD, NEW])
    put_counts(tree, bootc_good=GOOD, bootc_counted=NEW, bootc_left="0")
    machine = machine_of(tree)
    assert [start(machine) for _ in range(4)] == [("a", "")] * 4
    # Another entry that somebody chooses is as it ever was.
    assert start(machine, 2) == ("b", "")


@pytest.mark.long
def test_the_count_of_another_deployment_is_no_count(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine]
) -> None:
    tree.write([NEW, GOOD], settings="tries=1\n")
    put_counts(tree, bootc_good=GOOD, bootc_counted=OLD, bootc_left="0")
    machine = machine_of(tree)
    assert [start(machine) for _ in range(2)] == [
        ("b", "bootc.trial=0"),
        ("a", "bootc.fellback=tries"),
    ]


@pytest.mark.long
def test_choosing_the_good_one_by_hand_costs_the_new_one_nothing(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine]
) -> None:
    tree.write([NEW, GOOD])
    machine = machine_of(tree)
    assert start(machine, 2) == ("a", "")
    assert start(machine) == ("b", "bootc.trial=2")


@pytest.mark.long
@pytest.mark.parametrize(
    "content",
    [
        "",
        "x" * 1024,
        "# GRUB Environment Block\nbootc_left=0\n",
        # Half of it written, and nothing there before.
        format_block({"bootc_good": GOOD})[:512] + "\0" * 512,
        "\0" * 512 + format_block({"bootc_good": GOOD})[512:],
        None,
    ],
)
def test_without_a_count_the_new_one_starts_and_is_never_told_to_reboot(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine], content: str | None
) -> None:
    tree.write([NEW, GOOD])
    block = tree.root / "boot/bootc.env"
    block.unlink()
    if content is not None:
        block.write_text(content)
    machine = machine_of(tree)
    assert [start(machine) for _ in range(4)] == [("b", "bootc.trial=manual")] * 4


@pytest.mark.long
def test_when_nothing_else_can_be_loaded_the_failed_one_is_tried_again(
    tree: MenuTree, machine_of: Callable[[MenuTree], Machine]
) -> None:
    tree.write([NEW, GOOD], unloadable=(GOOD,))
    put_counts(tree, bootc_good=GOOD, bootc_counted=NEW, bootc_left="0")
    assert start(machine_of(tree)) == ("b", "bootc.trial=manual")
