import os
import pwd
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.tools import rootless
from bootc_build.tools.cache import cache_folder


@pytest.mark.parametrize(
    ("table", "count"),
    [
        ("somebody:100000:65536\nother:1:2\n", 65536),
        ("1234:100000:1000\nsomebody:200000:24\n", 1024),
        ("# somebody:1:2\nother:100000:65536\n", 0),
        ("somebody:100000\nsomebody:1:many\n", 0),
    ],
)
def test_subordinate_ids_are_counted_by_name_and_number(
    table: str, count: int, tmp_path: Path
) -> None:
    file = tmp_path / "subuid"
    file.write_text(table)
    assert rootless.subordinate_ids(file, "somebody", 1234) == count
    assert rootless.subordinate_ids(tmp_path / "absent", "somebody", 1234) == 0


def test_root_of_a_namespace_is_not_root_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "uid_map"
    monkeypatch.setattr(rootless, "_ID_MAP", table)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    table.write_text("         0       1001          1\n         1     100000      65536\n")
    assert not rootless.is_system_root()
    assert cache_folder() == Path.home() / ".cache/bootc-build"
    table.write_text("         0          0 4294967295\n")
    assert rootless.is_system_root()
    assert cache_folder() == Path("/var/cache/bootc-build")


def test_root_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it went on elsewhere"))
    rootless.enter(["disk", "os:v1"])


def test_everything_that_is_missing_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(rootless, "_SUBIDS", {"uid": empty, "gid": empty})
    monkeypatch.setattr("bootc_build.onhost.process.shutil.which", lambda *_args, **_named: None)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it went on all the same"))
    with pytest.raises(UserError) as caught:
        rootless.enter(["disk", "os:v1"])
    name = pwd.getpwuid(os.getuid()).pw_name
    for said in (
        "'newuidmap' is not installed",
        f"{name} has 0 subordinate uids in {empty}, 65536 are needed",
        f"{name} has 0 subordinate gids in {empty}, 65536 are needed",
        "apt-get install uidmap",
        f"usermod --add-subuids 100000-165535 {name}",
        "sudo",
    ):
        assert said in str(caught.value)
