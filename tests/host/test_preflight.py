"""What would go wrong at shutdown or at the next boot is found before anything is queued."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.verdict import (
    MovedId,
    Verdict,
    boot_space,
    kernel_arguments,
    moved_ids,
    parse_ids,
    root_space,
)
from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost, publish


def severities(found: object) -> list[str]:
    return [each.severity for each in found]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("needed", "free", "freeable", "expected"),
    [
        (0, 0, 0, []),  # the kernel is there already
        (50_000_000, 100_000_000, 0, []),
        (50_000_000, 51_000_000, 0, ["error"]),
        (50_000_000, 10_000_000, 50_000_000, ["warning"]),
        (50_000_000, 10_000_000, 10_000_000, ["error"]),
    ],
)
def test_the_kernel_has_to_fit_into_boot(
    needed: int, free: int, freeable: int, expected: list[str]
) -> None:
    assert severities(boot_space(needed, free, freeable)) == expected


def test_a_deployment_has_to_fit_into_the_root() -> None:
    assert severities(root_space(10**9, 10**6, 10**6)) == []
    assert severities(root_space(10**9, None, 10**6)) == []
    assert severities(root_space(10**7, 10, 10**6)) == ["error", "error"]


def test_the_root_argument_must_not_go_and_the_line_must_not_be_cut() -> None:
    assert severities(kernel_arguments(["root=UUID=x", "rw"], ["root=UUID=x", "a=1"])) == []
    assert severities(kernel_arguments(["root=UUID=x"], ["a=1"])) == ["error"]
    assert severities(kernel_arguments(["rw"], ["rw"])) == []  # a root that is discovered
    assert severities(kernel_arguments([], ["x" * 1900])) == ["error"]


def test_ids_that_moved_are_told_by_name() -> None:
    old, new = parse_ids("a:x:5:\nb:x:6:\n+nis\n"), parse_ids("a:x:7:\nb:x:6:\nc:x:5:\n")
    assert moved_ids("group", old, new) == [MovedId("group", "a", 5, 7, "c")]


def test_a_verdict_names_every_error_and_the_first_remedy() -> None:
    found = (*boot_space(10**8, 0, 0), *kernel_arguments(["root=x"], []))
    verdict = Verdict(("boot-space", "kernel-arguments"), found)
    with pytest.raises(
        UserError, match=r"(?s)/boot has 0 MB free.*'root=' would be gone"
    ) as caught:
        verdict.refuse()
    assert "bootc unpin" in caught.value.remedy
    assert verdict.to_dict()["ok"] is False


def report(host: PretendHost) -> dict[str, list[dict[str, str]]]:
    document = json.loads((host.run_directory / "bootc/preflight.json").read_text())
    return {each["name"]: each["findings"] for each in document["checks"]}


def test_a_good_image_passes_every_check(host: PretendHost) -> None:
    digest = publish(host, "2")
    host.bootc("upgrade")
    names = [
        "boot-space",
        "root-space",
        "boot-entries",
        "kernel-arguments",
        "etc-merge",
        "users-and-groups",
    ]
    assert report(host) == {name: [] for name in names}
    document = json.loads((host.run_directory / "bootc/preflight.json").read_text())
    assert (document["imageDigest"], document["ok"]) == (digest, True)


def colour_becomes_a_directory(tree: Path) -> None:
    (tree / "etc/colour").unlink()
    (tree / "etc/colour").mkdir()
    (tree / "etc/colour/default").write_text("green\n")


def root_argument(tree: Path) -> None:
    (tree / "usr/lib/bootc/kargs.d/90.toml").write_text(f'kargs = ["long={"x" * 2000}"]')


@pytest.mark.parametrize(
    ("spoil", "fact", "remedy"),
    [
        (colour_becomes_a_directory, "/etc/colour was changed here", "mv /etc/colour /var/"),
        (root_argument, "The kernel arguments would have about", "bootc kargs"),
    ],
)
def test_what_would_fail_at_shutdown_is_refused_with_a_remedy(
    host: PretendHost, spoil: Callable[[Path], None], fact: str, remedy: str
) -> None:
    (host.root / "etc/colour").write_text("local\n")
    write_image(host.scratch / "tmp/image", host.scratch, version="2", spoil=spoil)
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 1
    assert fact in done.stderr
    assert remedy in done.stderr
    assert host.status()["staged"] is None
    # What was refused without a change here goes through after the remedy.
    if spoil is colour_becomes_a_directory:
        (host.root / "etc/colour").write_text("image\n")
        host.bootc("upgrade")
        host.reboot()
        assert (host.root / "etc/colour/default").read_text() == "green\n"


def test_a_boot_menu_that_nothing_leads_to_is_refused(host: PretendHost) -> None:
    publish(host, "2")
    menu = host.sysroot / "boot/grub/grub.cfg"
    menu.unlink()
    menu.write_text("# somebody's own\n")
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 1
    assert "ln -sf ../loader/grub.cfg /boot/grub/grub.cfg" in done.stderr


def test_a_user_with_another_number_whose_files_lie_about_is_warned_of(host: PretendHost) -> None:
    (host.root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndata:x:777:777::/:/bin/sh\n")
    (host.root / "usr/etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")

    def moved(tree: Path) -> None:
        (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndata:x:888:888::/:/bin/sh\n")

    write_image(host.scratch / "tmp/image", host.scratch, version="2", spoil=moved)
    var = host.sysroot / "ostree/deploy/default/var"
    (var / "lib/data").mkdir(parents=True)
    (var / "lib/data/base").touch()
    done = host.execute(*BOOTC, "upgrade")
    assert "users-and-groups" in report(host)
    assert report(host)["users-and-groups"] == []
    host.execute("chown", "777", "/var/lib/data/base")
    host.execute(*BOOTC, "rollback")
    host.execute("rm", "/run/ostree/staged-deployment")
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 0, done.stderr
    assert (
        "The user data is 777 here and 888 in the image, and /var/lib/data/base is" in done.stderr
    )


@pytest.mark.parametrize("changed_here", [False, True])
def test_files_that_another_account_would_get_forbid_the_update(
    host: PretendHost, *, changed_here: bool
) -> None:
    text = "root:x:0:0::/:/bin/sh\ndata:x:777:777::/:/bin/sh\n"
    (host.root / "usr/etc/passwd").write_text(text)
    (host.root / "etc/passwd").write_text(text + ("me:x:1000:1000::/:\n" if changed_here else ""))

    def moved(tree: Path) -> None:
        (tree / "etc/passwd").write_text("root:x:0:0::/:\ndata:x:888:888::/:\nweb:x:777:777::/:\n")

    write_image(host.scratch / "tmp/image", host.scratch, version="2", spoil=moved)
    secret = host.sysroot / "ostree/deploy/default/var/secret"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.touch()
    host.execute("chown", "777", "/var/secret")
    done = host.execute(*BOOTC, "upgrade")
    assert "The user data is 777 here and 888 in the image, and /var/secret is" in done.stderr
    # A changed passwd is kept by the merge, so everybody keeps his number.
    assert done.status == (0 if changed_here else 1)
    assert ("which would be web's" in done.stderr) is not changed_here


def test_a_check_tells_what_stands_against_an_update_before_anything_is_fetched(
    host: PretendHost,
) -> None:
    digest = publish(host, "2")
    for blob in (host.scratch / "tmp/image/blobs/sha256").iterdir():
        if blob.stat().st_size > 10_000:
            blob.unlink()  # the layer: whoever asked for it would fail
    menu = host.sysroot / "boot/grub/grub.cfg"
    found = json.loads(host.bootc("upgrade", "--check", "--format=json"))["update"]
    assert found["imageDigest"] == digest
    assert found["preflight"]["ok"] is True
    assert found["preflight"]["unknown"] == ["kernel-arguments", "etc-merge", "users-and-groups"]
    menu.unlink()
    menu.write_text("# somebody's own\n")
    found = json.loads(host.bootc("upgrade", "--check", "--format=json"))["update"]
    wrong = [each["name"] for each in found["preflight"]["checks"] if not each["ok"]]
    assert wrong == ["boot-entries"]
    said = host.bootc("upgrade", "--check")
    assert "preflight error: boot-entries: /boot/grub/grub.cfg is not a link" in said
    assert "only known when it is downloaded: kernel-arguments, etc-merge" in said
    assert host.status()["staged"] is None


def test_a_check_refuses_what_would_not_fit(host: PretendHost) -> None:
    publish(host, "2")
    config = host.sysroot / "ostree/repo/config"
    config.write_text(config.read_text().replace("[core]", "[core]\nmin-free-space-size=900TB"))
    found = json.loads(host.bootc("upgrade", "--check", "--format=json"))["update"]
    [space] = [each for each in found["preflight"]["checks"] if each["name"] == "root-space"]
    assert space["ok"] is False
    assert "MB are free" in space["findings"][0]["message"]


def test_a_download_says_what_all_checks_came_to(host: PretendHost) -> None:
    publish(host, "2")
    done = host.execute(*BOOTC, "upgrade", "--download-only")
    if "libostree cannot hold" in done.stderr:
        pytest.skip("this machine's libostree cannot hold a deployment back")
    assert "preflight: nothing stands against it (boot-space, root-space" in done.stderr
    assert "Image downloaded, but will not be applied on reboot" in done.stdout
    assert host.execute(*BOOTC, "upgrade", "--format=json").status == 2


def test_arguments_of_what_is_held_back_do_not_ask_for_a_reboot(host: PretendHost) -> None:
    publish(host, "2")
    done = host.execute(*BOOTC, "upgrade", "--download-only")
    if "libostree cannot hold" in done.stderr:
        pytest.skip("this machine's libostree cannot hold a deployment back")
    done = host.execute(*BOOTC, "kargs", "--append=mine=2")
    assert 'Run "bootc upgrade --from-downloaded" to have the next reboot' in done.stderr
    host.bootc("upgrade", "--from-downloaded")
    done = host.execute(*BOOTC, "kargs", "--append=mine=3")
    assert 'Run "systemctl reboot" to use them.' in done.stderr
