import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.config.sizes import parse_blueprint_size, parse_config_size
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB, parse_size


def parse(text: str) -> DiskConfiguration:
    return disk_configuration(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")


# What is written, and the words that the error has.
WRONG = {
    "unit that means two things": ("size: 20GB", ("'size' is \"20GB\"", "KiB, MiB, GiB")),
    "negative size": ("boot: {size: -1G}", ("'boot.size'", "KiB")),
    "file system that is not known": (
        "root: {filesystem: zfs}",
        ("'root.filesystem' is \"zfs\"", "Allowed there: 'ext4', 'btrfs' or 'xfs'"),
    ),
    "relative mount point": (
        "filesystems: [{mountpoint: var, size: 1G}]",
        ("'filesystems[0].mountpoint' is \"var\"", "^/"),
    ),
    "mount point that climbs": (
        "filesystems: [{mountpoint: /var/../usr, size: 1G}]",
        ("'filesystems[0].mountpoint'", "without '.', '..'"),
    ),
    "name that is no volume's": (
        "volume-group: {name: 'a b'}\nroot: {volume: a}",
        ("'volume-group.name'",),
    ),
    "user that cannot be": ("users: [{name: Alice}]", ("'users[0].name'", "^[a-z_]")),
    "locked hash that is none": (
        "users: [{name: a, password-hash: '!x'}]",
        ("'users[0].password-hash' is not what it may be: it has to be a hash of crypt(5)",),
    ),
    "password as a hash": (
        "users: [{name: a, password-hash: hunter2}]",
        ("'users[0].password-hash' is not", "openssl passwd -6", "said by 'password'"),
    ),
    "hash with a colon": (
        "users: [{name: a, password-hash: '$6$x$y:0'}]",
        ("'users[0].password-hash' is not what it may be",),
    ),
    "hash with a second line": (
        r'users: [{name: a, password-hash: "$6$x$y\nroot"}]',
        ("'users[0].password-hash' is not what it may be",),
    ),
    "hash that is cut off": (
        "users: [{name: a, password-hash: $6$salt}]",
        ("'users[0].password-hash' is not what it may be",),
    ),
    "empty password": (
        "users: [{name: a, password: ''}]",
        ("'users[0].password' is not what it may be: it has to be one line, and not empty",),
    ),
    "password of two lines": (
        r'users: [{name: a, password: "x\ny"}]',
        ("'users[0].password' is not what it may be",),
    ),
    "key of two lines": (
        r'users: [{name: a, ssh-keys: ["ssh-rsa AAAA\nssh-rsa AAAA"]}]',
        ("'users[0].ssh-keys[0]'", "it has to be one line"),
    ),
    "options without a key": (
        "users: [{name: a, ssh-keys: ['restrict,pty rsa AAAA']}]",
        ("'users[0].ssh-keys[0]'", "no key of a known type"),
    ),
    "path with a blank": (
        "files: [{path: /etc/a b}]",
        ("'files[0].path' is \"/etc/a b\"", "a path with blanks"),
    ),
    "description with a colon": (
        "users: [{name: a, description: 'a: b'}]",
        ("'users[0].description'", "one line without ':'"),
    ),
    "label of two words": ("root: {label: a b}", ("'root.label'", "it has to be one word")),
    "words as a key": (
        "users: [{name: a, ssh-keys: [hello world]}]",
        ("'users[0].ssh-keys[0]' is \"hello world\"", "'hello' is neither", "ssh-ed25519, ssh-rsa"),
    ),
    "key that is not base64": (
        "users: [{name: a, ssh-keys: [ssh-ed25519 me@here]}]",
        ("'users[0].ssh-keys[0]'", "behind 'ssh-ed25519' there is no key in base64"),
    ),
    "key without its data": (
        "users: [{name: a, ssh-keys: [ssh-ed25519]}]",
        ("behind 'ssh-ed25519' there is no key",),
    ),
    "option of a key that is not closed": (
        """users: [{name: a, ssh-keys: ['from="10.0.0.0/8 ssh-ed25519 AAAA']}]""",
        ("'users[0].ssh-keys[0]'", "its options are no list"),
    ),
    "key of a type that is no more": (
        "users: [{name: a, ssh-keys: [ssh-dss AAAA]}]",
        ("'ssh-dss' is neither", "known types"),
    ),
    "home nowhere": (
        "users: [{name: a, home: /nowhere/a}]",
        ("'users[0].home' is \"/nowhere/a\"", "homes below /var, /home, /root"),
    ),
    "home in /etc": ("users: [{name: a, home: /etc/a}]", ("'users[0].home'", "homes below /var")),
    "home that is the place of homes": (
        "users: [{name: a, home: /home}]",
        ("'users[0].home'", "homes below /var"),
    ),
    "home with a colon": (
        "users: [{name: a, home: '/home/a:b'}]",
        ("'users[0].home'", "cannot be said in /etc/passwd"),
    ),
    "empty kernel argument": (
        "kernel-arguments: ['  ']",
        ("'kernel-arguments[0]' is \"  \"", "not empty"),
    ),
    "kernel argument of two lines": (
        r'kernel-arguments: ["a\nb"]',
        ("'kernel-arguments[0]'", "one line"),
    ),
    "quote that is not closed": (
        """kernel-arguments: ['dyndbg="file x']""",
        ("'kernel-arguments[0]'", "a quote in it is not closed"),
    ),
    "kernel argument of libostree's": (
        "kernel-arguments: [ostree=/x]",
        ("'kernel-arguments[0]'", "names the deployment"),
    ),
    "kernel argument like an option": (
        "kernel-arguments: [--root-size=1]",
        ("'kernel-arguments[0]'", "begins with '-'"),
    ),
    "size that no disk has": (
        "size: 1" + 32 * "0",
        ("'size' is 1000", "9223372036854775807 bytes"),
    ),
    "size that no disk has, with a unit": (
        "size: 8388608T",
        ("'size' is \"8388608T\"", "9223372036854775807 bytes"),
    ),
    "size of many digits": (f"size: {'9' * 400}K", ("'size' is \"999", "…", "8 EiB")),
    "mode that is none": (
        "files: [{path: /etc/x, mode: '0999'}]",
        ("'files[0].mode'", "[0-7]"),
    ),
    "mode that YAML takes for a number": (
        "files: [{path: /etc/x, mode: 0644}]",
        ("'files[0].mode' is 420", "has to be a text"),
    ),
    "way of root's login": (
        "sshd: {root-login: maybe}",
        ("'sshd.root-login'", "'prohibit-password'"),
    ),
    "name of a host": ("hostname: -x", ("'hostname'", "[A-Za-z0-9]")),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_value_that_cannot_be_is_refused_with_what_is_allowed(
    text: str, said: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("disk.yaml")
    for words in said:
        assert words in str(refused.value)


@pytest.mark.parametrize(
    "secret",
    [
        "$6$salt$AkOOBO38SQQ8T8Q46KuCONe.8zg41nvCDKDq7pVQd2n2hy8sf8aR3G89VY.57up0eSIa/69odCCcLT4hx7FpW/",
        "$6$rounds=5000$salt$AkOO./",
        "$5$salt$Oo0nc86Ktkc05wTAggFOZIQJhfxhAZY1mlIogZJN.i.",
        "$y$j9T$saltsalt$EzcjIo7YP10Zc9U2E2Jmjw8e222iKqo.Js0d.7Nh2J3",
        "$gy$j9T$saltsalt$ViqbIiDuPcyhWUz92vvGxCOBTsTOKaLYZI/gzOPXWG8",
        "$7$CU..../....saltsaltsaltsa$9E1Jj2Kzdsh0YTowfuSmOK3Rg7eGQsCwx0dOWSHhf86",
        "$2b$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q",
        "$sha1$248488$ggu.H673kaZ5$O0hk4dftocjyzJtoN4VO.ur.0HHA",
        "$md5,rounds=100$salt$$3JxQ3ZsMUEXBbu5/QB6MR/",
        "$1$salt$IXp9zPHZ94CMcVBXaZFPN/",
        "$3$$8cc19b6a8cfeac299c2871c86b38de28",
        "!",
        "*",
        "!*",
        "!$6$salt$hash",
    ],
)
def test_what_crypt_makes_is_a_hash_and_so_is_a_locked_one(secret: str) -> None:
    [user] = parse(f"users: [{{name: a, password-hash: '{secret}'}}]").users
    assert user.password_hash == secret


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519 AAAA",
        "ssh-ed25519 AAAA me@here",
        "ssh-rsa AAAAB3Nz cardno:000612345678",
        "ecdsa-sha2-nistp256 AAAAB3Nz comment with words, and 'quotes'",
        "sk-ssh-ed25519@openssh.com AAA= x",
        'from="10.0.0.0/8" ssh-ed25519 AAAA me',
        r'restrict,command="echo \"a, b\"",no-PTY,environment="A=b:c" ssh-ed25519 AAAA me',
        "cert-authority\tssh-ed25519\tAAAA",
    ],
)
def test_lines_of_authorized_keys_may_have_options_and_any_comment(key: str) -> None:
    [user] = disk_configuration({"users": [{"name": "a", "ssh-keys": [key]}]}, "disk.yaml").users
    assert user.ssh_keys == (key,)


@pytest.mark.parametrize(
    "argument",
    [
        "quiet",
        "ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:none",
        "vfio-pci.ids=10de:1b80",
        "pci=noacs,0000:00:1f.0",
        'dyndbg="file drivers/usb/* +p"',
        "two words",
    ],
)
def test_kernel_arguments_may_have_colons_and_quotes(argument: str) -> None:
    found = disk_configuration({"kernel-arguments": [argument]}, "disk.yaml")
    assert found.kernel_arguments == (argument,)


@pytest.mark.parametrize(
    ("said", "home"),
    [
        ("/home/a/", "/home/a"),
        ("/var/lib/a", "/var/lib/a"),
        ("/root", "/root"),
        ("/srv/w//", "/srv/w"),
    ],
)
def test_a_home_has_no_slash_at_its_end(said: str, home: str) -> None:
    [user] = parse(f"users: [{{name: a, home: {said}}}]").users
    assert user.home == home


def test_no_error_shows_a_password() -> None:
    for key in ("password", "password-hash"):
        with pytest.raises(UsageError) as refused:
            parse(rf'users: [{{name: a, {key}: "hunter2\nx"}}]')
        assert "hunter2" not in str(refused.value)


@given(st.text(alphabet="0123456789.KMGTiB ", max_size=8))
def test_a_size_of_the_command_line_and_of_a_file_are_the_same_bytes(text: str) -> None:
    try:
        size = parse_config_size(text)
    except ValueError:
        return
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("10 GiB", 10 * GIB), ("1 GB", 10**9), ("500 MB", 500 * 10**6), ("1.5GiB", 1536 * MIB)],
)
def test_a_blueprints_units_are_those_of_blueprints(text: str, size: int) -> None:
    assert parse_blueprint_size(text) == size
