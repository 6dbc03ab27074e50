import base64

import pytest

from bootc_build.config.disk import DiskConfiguration, Group, User
from bootc_build.disk.settings.account_files import DROP_IN, SYSUSERS, TMPFILES, with_passwords
from bootc_build.disk.settings.accounts import ImageAccounts, plan_accounts, with_keys_of_root

USERS = """root:x:0:0:root:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
taken:x:1000:1000::/home/taken:/bin/sh
not a line
"""
GROUP = "root:x:0:\nshadow:x:42:\nsudo:x:27:\ntaken:x:1000:\nalso:x:1001:\n"
IMAGE = ImageAccounts.parse(USERS, GROUP)


def plan(
    *users: User, groups: tuple[Group, ...] = (), hashes: dict[str, str] | None = None
) -> dict[str, str]:
    wanted = DiskConfiguration(users=users, groups=groups)
    found = plan_accounts(wanted, IMAGE, hashes or {}, lambda path: path.replace("/home", "/h"))
    return {file.path: file.content.partition("\n")[2] or file.content for file in found.files}


def test_a_user_is_declared_with_the_first_free_ids() -> None:
    files = plan(User(name="alice", description="Alice 100%", groups=("sudo",)))
    assert files[SYSUSERS].splitlines() == [
        "g alice 1002",
        'u alice 1002:1002 "Alice 100%%" /var/home/alice /bin/bash',
        "m alice sudo",
    ]
    # Where links of the image lead, since tmpfiles.d does not go through everybody's links.
    assert files[TMPFILES] == "C /var/h/alice :0700 :1002 :1002 - /etc/skel\n"


def test_ids_that_are_asked_for_are_taken_and_nobody_else_gets_them() -> None:
    files = plan(
        User(name="a"),
        User(name="b", uid=1002),
        User(name="c", uid=1100, gid=27),
        User(name="d", uid=1200, gid=1300),
        groups=(Group(name="ops", gid=1003), Group(name="dev")),
    )
    assert files[SYSUSERS].splitlines() == [
        "g ops 1003",
        "g dev 1004",
        "g a 1005",
        'u a 1005:1005 "" /var/home/a /bin/bash',
        "g b 1002",
        'u b 1002:1002 "" /var/home/b /bin/bash',
        'u c 1100:27 "" /var/home/c /bin/bash',
        "g d 1300",
        'u d 1200:1300 "" /var/home/d /bin/bash',
    ]


def test_a_password_is_a_credential_that_only_root_reads() -> None:
    wanted = DiskConfiguration(users=(User(name="alice"),))
    found = plan_accounts(wanted, IMAGE, {"alice": "$6$x$y"})
    [secret] = [file for file in found.files if file.content == "$6$x$y"]
    assert secret.path == "/etc/credstore/passwd.hashed-password.alice"
    assert (secret.mode, secret.folder_mode, secret.uid) == (0o600, 0o700, 0)
    [drop_in] = [file.content for file in found.files if file.path == DROP_IN]
    assert "ConditionNeedsUpdate=\n" in drop_in
    assert f"LoadCredential=passwd.hashed-password.alice:{secret.path}\n" in drop_in
    others = [file.content for file in found.files if file is not secret]
    assert not any("$6$" in content for content in others)
    assert found.passwords == {}


def test_keys_arrive_where_there_are_none_yet_and_belong_to_the_user() -> None:
    lines = plan(User(name="alice", ssh_keys=("ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b")))[
        TMPFILES
    ]
    folder, keys = lines.splitlines()[1:]
    assert folder == "d /var/h/alice/.ssh :0700 :1002 :1002 -"
    *rest, encoded = keys.split()
    assert rest == ["f~", "/var/h/alice/.ssh/authorized_keys", ":0600", ":1002", ":1002", "-"]
    assert base64.b64decode(encoded) == b"ssh-ed25519 AAAA a\nssh-ed25519 BBBB b\n"


def test_a_user_of_the_image_gets_keys_groups_and_a_password_and_nothing_else() -> None:
    wanted = DiskConfiguration(
        users=(User(name="root", ssh_keys=("ssh-rsa AAAA",), groups=("sudo",)),)
    )
    found = plan_accounts(wanted, IMAGE, {"root": "$6$x$y"})
    files = {file.path: file.content for file in found.files}
    assert files[SYSUSERS].splitlines()[1:] == ["m root sudo"]
    assert "C /root" not in files[TMPFILES]
    assert found.passwords == {"root": "$6$x$y"}
    shadow = "root:*:20777:0:99999:7:::\nbin:*:1:::::\n"
    assert with_passwords(shadow, found.passwords) == (
        "root:$6$x$y:20777:0:99999:7:::\nbin:*:1:::::\n"
    )


def test_keys_of_root_from_two_sides_are_one_file() -> None:
    wanted = DiskConfiguration(
        users=(User(name="root", ssh_keys=("ssh-rsa BBBB", "ssh-rsa CCCC")), User(name="a"))
    )
    merged, left = with_keys_of_root(wanted, "# mine\nssh-rsa AAAA\nssh-rsa BBBB\n")
    assert left is None
    assert merged.users[0].ssh_keys == ("# mine", "ssh-rsa AAAA", "ssh-rsa BBBB", "ssh-rsa CCCC")
    assert merged.users[1] == wanted.users[1]
    text = plan(*merged.users)[TMPFILES]
    [line] = [line for line in text.splitlines() if line.startswith("f~ /root/")]
    assert (
        base64.b64decode(line.split()[-1]) == b"# mine\nssh-rsa AAAA\nssh-rsa BBBB\nssh-rsa CCCC\n"
    )


@pytest.mark.parametrize(
    "users",
    [(), (User(name="root"),), (User(name="a", ssh_keys=("ssh-rsa BBBB",)),)],
    ids=["nobody", "root without", "another"],
)
def test_keys_that_only_the_flag_has_for_root_are_the_installers(users: tuple[User, ...]) -> None:
    wanted = DiskConfiguration(users=users)
    assert with_keys_of_root(wanted, "a\n") == (wanted, "a\n")
    assert with_keys_of_root(wanted, None) == (wanted, None)


def test_without_users_and_groups_there_is_nothing() -> None:
    assert plan() == {}


def test_quotes_backslashes_and_percent_signs_stay_what_they_are() -> None:
    files = plan(
        User(  # noqa: S604 - a login shell
            name="a",
            description="A 'b' \\",
            home="/var/100%/o'b",
            shell="/bin/a%h\\",
            ssh_keys=("ssh-rsa AAAA",),
        )
    )
    assert files[SYSUSERS].splitlines()[1] == (
        r"""u a 1002:1002 "A \'b\' \\" /var/100%%/o\'b /bin/a%%h\\"""
    )
    assert files[TMPFILES].startswith(r"C /var/100%%/o\'b :0700")
    assert r"f~ /var/100%%/o\'b/.ssh/authorized_keys" in files[TMPFILES]


# Users and groups that cannot be, where, and what is said.
IMPOSSIBLE = {
    "unknown group": (
        (User(name="a", groups=("sudo", "nobody")),),
        (),
        ("users[0].groups[1]", "is nobody, which is neither a group of the image nor"),
    ),
    "uid of the image's": (
        (User(name="a", uid=33),),
        (),
        ("users[0].uid", "is 33, which 'www-data' has"),
    ),
    "own group's id": (
        (User(name="a", uid=1001),),
        (),
        ("users[0].uid", "is 1001, and so would be the id of the user's own group"),
    ),
    "other uid of the image's user": (
        (User(name="root", uid=5),),
        (),
        ("users[0].uid", "is 5, and the image has the user 'root' already"),
    ),
    "other shell": (
        (User(name="root", shell="/bin/sh"),),  # noqa: S604 - a login shell
        (),
        ("users[0].shell", "is /bin/sh, and the image has the user 'root'"),
    ),
    "other home": (
        (User(name="root", home="/var/x"),),
        (),
        ("users[0].home", "is /var/x, and the image has the user 'root'"),
    ),
    "gid of the image's": (
        (),
        (Group(name="x", gid=27),),
        ("groups[0].gid", "is 27, which 'sudo' has"),
    ),
    "other gid": (
        (),
        (Group(name="sudo", gid=28),),
        ("groups[0].gid", "is 28, and the image has the group 'sudo' with the id 27"),
    ),
    "gid twice": (
        (),
        (Group(name="x", gid=1500), Group(name="y", gid=1500)),
        ("groups[1].gid", "is 1500, which 'x' has"),
    ),
}


@pytest.mark.parametrize(("users", "groups", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_accounts_that_cannot_be_are_told_by_key(
    users: tuple[User, ...], groups: tuple[Group, ...], said: tuple[str, str]
) -> None:
    [problem] = plan_accounts(DiskConfiguration(users=users, groups=groups), IMAGE, {}).problems
    assert (problem.path, problem.fact[: len(said[1])]) == said
    assert problem.remedy


def test_everything_that_is_wrong_with_accounts_is_told_at_once() -> None:
    wanted = DiskConfiguration(
        users=(User(name="a", uid=33, groups=("nobody",)), User(name="root", home="/var/x")),
        groups=(Group(name="x", gid=27),),
    )
    paths = {problem.path for problem in plan_accounts(wanted, IMAGE, {}).problems}
    assert paths == {"users[0].uid", "users[0].groups[0]", "users[1].home", "groups[0].gid"}
