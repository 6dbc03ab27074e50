"""Running all lints over a root: selection, confinement, speed, rendering."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.lint.model import Finding, Level, RootKind
from bootc_build.onhost.lint.registry import LINTS, lint_root
from bootc_build.onhost.lint.render import finding_lines, lint_list, report_data, summary_lines
from bootc_build.onhost.lint.root import Root

UPSTREAM = {
    *("api-base-directories", "baseimage-composefs", "baseimage-root", "bootc-kargs"),
    *("buildah-injected", "etc-usretc", "kernel", "nonempty-boot", "nonempty-run-tmp"),
    *("sysusers", "utf8", "var-log", "var-run", "var-tmpfiles"),
}
UPSTREAM_FATAL = {
    *("api-base-directories", "baseimage-root", "bootc-kargs", "etc-usretc", "kernel"),
    *("utf8", "var-run"),
}


def test_upstreams_fourteen_lints_keep_their_names_and_levels() -> None:
    ours = {lint.name: lint.level for lint in LINTS}
    assert set(ours) >= UPSTREAM
    assert {name for name in UPSTREAM if ours[name] is Level.FATAL} == UPSTREAM_FATAL


def test_names_are_unique_and_sorted() -> None:
    names = [lint.name for lint in LINTS]
    assert names == sorted(set(names))


def test_a_skipped_lint_is_silent_and_counted(tree: Path) -> None:
    (tree / "boot/x").write_text("x")
    assert [found.lint for found in lint_root(Root(tree)).findings] == ["nonempty-boot"]
    report = lint_root(Root(tree), skip=["nonempty-boot"])
    assert report.findings == ()
    assert report.skipped == ("nonempty-boot",)
    assert "nonempty-boot" not in report.passed


def test_an_unknown_lint_to_skip_is_refused_with_the_known_ones(tree: Path) -> None:
    with pytest.raises(UsageError, match="no lint named 'var_log'") as caught:
        lint_root(Root(tree), skip=["var_log"])
    assert "var-log" in caught.value.remedy


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a directory"):
        lint_root(Root(tmp_path / "nowhere"))


def test_a_running_root_may_have_what_the_runtime_injected(tree: Path) -> None:
    (tree / "etc/resolv.conf").write_text("")
    assert lint_root(Root(tree)).findings
    assert not lint_root(Root(tree), RootKind.RUNNING).findings


def test_fatal_findings_come_first(tree: Path) -> None:
    (tree / "boot/x").write_text("x")
    (tree / "usr/bin/bootc").unlink()
    report = lint_root(Root(tree))
    assert [found.lint for found in report.findings] == ["bootc-binary", "nonempty-boot"]
    assert (len(report.fatal), len(report.warnings)) == (1, 1)


def test_links_never_lead_out_of_the_root(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (tree / "etc/absolute").symlink_to(outside)
    (tree / "etc/above").symlink_to("../../../../../../../../../.." + str(outside))
    (tree / "etc/good").symlink_to("/usr/bin/bootc")
    (tree / "etc/loop").symlink_to("loop")
    root = Root(tree)
    assert root.names("/etc/absolute") == []
    assert root.names("/etc/above") == []
    assert root.read("/etc/absolute/secret") is None
    assert root.text("/etc/good").startswith("#!")
    assert root.read("/etc/loop") is None
    assert root.resolve("/root/.ssh") == "/var/roothome/.ssh"


def test_where_links_go_in_a_circle_nothing_is(tree: Path) -> None:
    shutil.rmtree(tree / "usr/lib/bootc")
    (tree / "usr/lib/bootc").symlink_to("../lib/bootc")
    (tree / "usr/lib/tmpfiles.d").mkdir(parents=True, exist_ok=True)
    (tree / "usr/lib/tmpfiles.d/x.conf").write_text("d /usr/lib/bootc/x\n")
    root = Root(tree)
    for path in ("/usr/lib/bootc", "/usr/lib/bootc/kargs.d", "/usr/lib/bootc/kargs.d/a/.."):
        assert root.names(path) == []
        assert root.stat(path) is None
        assert root.read(path) is None
    assert root.lstat("/usr/lib/bootc/kargs.d") is None
    assert root.link("/usr/lib/bootc/kargs.d") is None
    assert root.link("/usr/lib/bootc") == "../lib/bootc"
    assert lint_root(root).findings


def test_four_thousand_files_take_less_than_a_fifth_of_a_second(tree: Path) -> None:
    for folder in range(40):
        path = tree / f"usr/share/data/{folder}"
        path.mkdir(parents=True)
        for name in range(100):
            os.close(os.open(path / str(name), os.O_CREAT | os.O_WRONLY))
    begun = time.process_time()
    assert lint_root(Root(tree)).findings == ()
    # Processor time: other work on the machine does not fail the test.
    assert time.process_time() - begun < 0.2


def test_long_lists_of_paths_are_cut_unless_all_are_wanted() -> None:
    found = Finding("var-log", Level.WARNING, tuple(f"/{n}" for n in range(7)), "Logs.", "Remove.")
    short = list(finding_lines(found))
    assert short[0] == "Lint warning: var-log: Logs."
    assert "    … and 2 more" in short
    assert sum(line.startswith("    /") for line in finding_lines(found, all_paths=True)) == 7


def test_the_step_that_made_a_path_is_shown() -> None:
    found = Finding("utf8", Level.FATAL, ("/a",), "Bad.", "Rename.")
    assert "    /a  (made by: RUN touch /a)" in list(
        finding_lines(found, step_of=lambda _: "RUN touch /a")
    )


def test_a_report_is_data_too(tree: Path) -> None:
    (tree / "boot/x").write_text("x")
    document = json.loads(json.dumps(report_data(lint_root(Root(tree)))))
    assert [found["lint"] for found in document["findings"]] == ["nonempty-boot"]
    assert document["findings"][0]["paths"] == ["/boot/x"]
    assert document["findings"][0]["level"] == "warning"
    assert "kernel" in document["passed"]


def test_the_summary_counts(tree: Path) -> None:
    (tree / "boot/x").write_text("x")
    assert list(summary_lines(lint_root(Root(tree), skip=["kernel"]))) == [
        f"Checks passed: {len(LINTS) - 2}",
        "Checks skipped: 1",
        "Warnings: 1",
    ]


def test_the_list_names_every_lint() -> None:
    assert [lint["name"] for lint in lint_list()] == [lint.name for lint in LINTS]
    assert {lint["type"] for lint in lint_list()} == {"fatal", "warning"}
