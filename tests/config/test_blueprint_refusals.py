"""What of a blueprint cannot be done is refused by file and key path; nothing is passed over."""

from typing import Any

import pytest

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.record import ConfigurationError
from bootc_build.onhost.errors import UsageError
from tests.config.blueprints import custom, parse

# What is written, and the words that the error has.
REFUSED = {
    "unknown key": (custom("hostnick = 'x'"), "'customizations.hostnick' is not a known key"),
    "unknown key at the top": ("foo = 1", "'foo' is not a known key"),
    "unknown key of a user": (
        "[[customizations.user]]\nname = 'a'\nkeys = 'b'",
        "'customizations.user[0].keys' is not a known key",
    ),
    "packages": ("[[packages]]\nname = 'vim'", "'packages' cannot be honoured"),
    "distribution": ("distro = 'rhel-10'", "'distro' cannot be honoured"),
    "architecture": ("architecture = 's390x'", "'architecture' is s390x"),
    "kernel": (custom("kernel.name = 'rt'"), "'customizations.kernel.name' cannot be honoured"),
    "expiry": (
        "[[customizations.user]]\nname = 'a'\nexpiredate = 1",
        "'customizations.user[0].expiredate' cannot be honoured",
    ),
    "file from elsewhere": (
        "[[customizations.files]]\npath = '/etc/x'\nuri = 'file:///x'",
        "'customizations.files[0].uri' cannot be honoured",
    ),
    "file of the image": (
        "[[customizations.files]]\npath = '/usr/x'",
        "'customizations.files[0].path' is /usr/x, which is the image's",
    ),
    "expiry on the first day of 1970": (
        "[[customizations.user]]\nname = 'a'\nexpiredate = 0",
        "'customizations.user[0].expiredate' cannot be honoured",
    ),
    "minimal": ("minimal = true", "'minimal' cannot be honoured"),
    "commits": ("[ostree]\nref = 'a'", "'ostree' cannot be honoured"),
    "hash that is none": (
        "[[customizations.user]]\nname = 'a'\npassword = '$6$salt'",
        "'customizations.user[0].password' is not what it may be",
    ),
    "password of two lines": (
        '[[customizations.user]]\nname = "a"\npassword = "x\\ny"',
        "'customizations.user[0].password' is not what it may be",
    ),
    "key that is none": (
        "[[customizations.user]]\nname = 'a'\nkey = 'PUBLIC SSH KEY'",
        "'customizations.user[0].key[0]' is \"PUBLIC SSH KEY\"",
    ),
    "key of somebody that is none": (
        (
            "[[customizations.user]]\nname = 'a'\nkey = 'ssh-rsa AAAA'\n"
            "[[customizations.sshkey]]\nuser = 'a'\nkey = 'x'"
        ),
        "'customizations.sshkey[0].key' is \"x\"",
    ),
    "name of somebody who has a key": (
        "[[customizations.sshkey]]\nuser = 'A'\nkey = 'ssh-rsa AAAA'",
        "'customizations.sshkey[0].user' is \"A\"",
    ),
    "home nowhere": (
        "[[customizations.user]]\nname = 'a'\nhome = '/nowhere/a'",
        "'customizations.user[0].home' is \"/nowhere/a\"",
    ),
    "user twice": (
        2 * "[[customizations.user]]\nname = 'a'\n",
        "'customizations.user[1].name' is a, as 'customizations.user[0].name' is",
    ),
    "uid twice": (
        (
            "[[customizations.user]]\nname = 'a'\nuid = 1000\n"
            "[[customizations.user]]\nname = 'b'\nuid = 1000"
        ),
        "'customizations.user[1].uid' is 1000, as 'customizations.user[0].uid' is",
    ),
    "owner of a file": (
        "[[customizations.files]]\npath = '/etc/x'\nuser = 'A'",
        "'customizations.files[0].user' is \"A\"",
    ),
    "file below a file": (
        "[[customizations.files]]\npath = '/etc/x'\n[[customizations.directories]]\npath = '/etc/x/y'",
        (
            "'customizations.directories[0].path' is /etc/x/y, which is below a file: "
            "'customizations.files[0].path' is /etc/x"
        ),
    ),
    "file over the accounts": (
        "[[customizations.files]]\npath = '/etc/passwd'",
        "'customizations.files[0].path' is /etc/passwd, which is made from other keys",
    ),
    "unit enabled and masked": (
        custom("services = {enabled = ['a'], masked = ['a']}"),
        "'customizations.services.masked[0]' is a, which 'customizations.services.enabled[0]'",
    ),
    "kernel argument with an open quote": (
        custom("kernel.append = 'quiet dyndbg=\"file x'"),
        "'customizations.kernel.append[1]' is",
    ),
    "several languages": (
        custom("locale.languages = ['C', 'de_DE.UTF-8']"),
        "'customizations.locale.languages' has several entries",
    ),
    "name of a user": (
        "[[customizations.user]]\nname = 'Alice'",
        "'customizations.user[0].name' is \"Alice\"",
    ),
    "shell": (
        "[[customizations.user]]\nname = 'a'\nshell = 'bash'",
        "'customizations.user[0].shell' is \"bash\"",
    ),
    "way of root's login": (
        custom("sshd.permit_root_login = 'maybe'"),
        "'customizations.sshd.permit_root_login' is \"maybe\"",
    ),
    "not TOML": ("[customizations", "config.toml is not valid TOML"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_by_file_and_key_path(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("config.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "firewall",
        "installation_device",
        "fdo",
        "openscap",
        "ignition",
        "repositories",
        "fips",
        "installer",
        "rpm",
        "rhsm",
        "cacerts",
        "containers-storage",
        "firstboot",
        "dnf",
        "iso",
    ],
)
@pytest.mark.parametrize("value", [True, {"any": 1}, [1], "text"])
def test_no_customization_that_is_not_done_is_passed_over(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be honoured") as refused:
        parse_blueprint({"customizations": {key: value}}, "config.json")
    assert f"'customizations.{key}'" in str(refused.value)
    assert refused.value.remedy
