"""The table of users with fixed ids."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.image.base_tree import USERS_TABLE
from bootc_build.image.sysusers import Group, User, UserTable, parse_sysusers, read_passwd

NAMES = st.from_regex(r"[a-z_][a-z0-9_-]{0,20}", fullmatch=True)
IDS = st.integers(0, 65535)
GECOS = st.from_regex(r"([A-Za-z][A-Za-z ,.]{0,20})?", fullmatch=True)


def shipped() -> UserTable:
    text = files("bootc_build").joinpath(f"data/image_root/{USERS_TABLE}").read_text()
    return parse_sysusers(text)


@st.composite
def tables(draw: st.DrawFn) -> UserTable:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    ids = draw(st.lists(IDS, min_size=len(names), max_size=len(names), unique=True))
    groups = tuple(Group(name, gid) for name, gid in zip(names, ids, strict=True))
    users = tuple(
        User(name, uid, draw(st.sampled_from(names)), draw(GECOS))
        for name, uid in zip(names, ids, strict=True)
    )
    return UserTable(users, groups)


@given(tables())
def test_a_table_survives_being_written_and_read(table: UserTable) -> None:
    assert parse_sysusers(table.sysusers()) == table


@given(tables())
def test_passwd_and_group_say_what_the_table_says(table: UserTable) -> None:
    found = read_passwd(table.passwd().splitlines(), table.group().splitlines())
    assert set(found.users) == set(table.users)
    assert set(found.groups) == set(table.groups)


def test_passwords_are_locked_before_the_shadow_file_exists() -> None:
    fields = [line.split(":")[1] for line in shipped().passwd().splitlines()]
    assert set(fields) == {"*"}


def test_the_shipped_table_has_each_name_and_id_once() -> None:
    table = shipped()
    for things in ([u.name for u in table.users], [u.uid for u in table.users]):
        assert len(things) == len(set(things))
    for things in ([g.name for g in table.groups], [g.gid for g in table.groups]):
        assert len(things) == len(set(things))


def test_every_shipped_user_has_a_group_of_the_table() -> None:
    table = shipped()
    assert {user.group for user in table.users} <= {group.name for group in table.groups}


def test_users_beyond_the_table_are_found() -> None:
    table = UserTable((User("root", 0, "root"),), (Group("root", 0),))
    found = UserTable(
        (*table.users, User("postgres", 110, "postgres")), (*table.groups, Group("postgres", 112))
    )
    extra = found.without(table)
    assert extra.sysusers() == ("g postgres 112\nu postgres 110:postgres - / /usr/sbin/nologin\n")


def test_another_form_of_line_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a line"):
        parse_sysusers("m user group\n")
