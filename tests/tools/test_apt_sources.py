"""The archive comes from the build machine's own apt configuration."""

from pathlib import Path

import pytest

from bootc_build.tools.apt_sources import (
    AptTarget,
    NoArchiveError,
    find_archive,
    inherited_options,
    parse_indextargets,
    read_targets,
)

SUITES = ("trixie", "bookworm", "sid")

DEB822 = """\
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Trusted: yes

Types: deb
URIs: http://mirror.test/debian-security/
Suites: bookworm-security
Components: main
Trusted: yes
"""
ONE_LINE = """\
# a comment
deb [arch=amd64 trusted=yes] http://other.test/vendor stable main
deb [trusted=yes] http://mirror.test/debian bookworm main
deb [trusted=yes] http://mirror.test/debian-security bookworm-security main
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt configuration of our own; the real apt-get reads it."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "state/lists/partial").mkdir(parents=True)
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list";\n'
        f'Dir::Etc::SourceParts "{tmp_path}/parts";\n'
        f'Dir::State "{tmp_path}/state";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    return tmp_path


def test_deb822_sources_are_read(apt: Path) -> None:
    (apt / "parts/debian.sources").write_text(DEB822)
    assert find_archive(read_targets(), SUITES) == (
        "http://mirror.test/debian",
        "http://mirror.test/debian-security",
    )


def test_one_line_sources_are_read_and_a_vendor_archive_is_passed_over(apt: Path) -> None:
    text = ONE_LINE.replace(" stable main", " nodistro main")
    (apt / "sources.list").write_text(text)
    assert find_archive(read_targets(), SUITES) == (
        "http://mirror.test/debian",
        "http://mirror.test/debian-security",
    )


def test_a_machine_without_security_updates_has_none(apt: Path) -> None:
    (apt / "sources.list").write_text("deb [trusted=yes] http://mirror.test/debian sid main\n")
    assert find_archive(read_targets(), SUITES) == ("http://mirror.test/debian", None)


def test_a_machine_without_a_debian_archive_is_told_to_name_one(apt: Path) -> None:
    (apt / "sources.list").write_text("deb [trusted=yes] http://other.test/vendor nodistro main\n")
    with pytest.raises(NoArchiveError) as caught:
        find_archive(read_targets(), SUITES)
    assert "--mirror" in caught.value.remedy


def test_a_vendor_archive_that_calls_itself_stable_does_not_win() -> None:
    targets = [
        AptTarget("stable", "main", "http://other.test/vendor"),
        AptTarget("bookworm", "main", "http://mirror.test/debian"),
    ]
    assert find_archive(targets, SUITES)[0] == "http://mirror.test/debian"


def test_a_proxy_and_the_patience_with_snapshots_are_inherited_and_nothing_else(apt: Path) -> None:
    with (apt / "apt.conf").open("a") as file:
        file.write(
            'Acquire::http::Proxy "http://proxy.test:3128";\n'
            'Acquire::Check-Valid-Until "false";\n'
            'APT::Get::Assume-Yes "true";\n'
        )
    options = inherited_options()
    assert 'Acquire::http::Proxy "http://proxy.test:3128";' in options
    assert 'Acquire::Check-Valid-Until "false";' in options
    assert not any("Assume-Yes" in option for option in options)


def test_lines_of_another_form_are_skipped() -> None:
    assert parse_indextargets("N: a note\ntrixie/|main|http://m.test/d/\n\n") == [
        AptTarget("trixie", "main", "http://m.test/d")
    ]
