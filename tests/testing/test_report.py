"""The report for the browser: written by test runs, looked at in Debian's chromium."""

import base64
import gzip
import json
import re
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from bootc_build.testing.artifacts import MachineArtifacts
from bootc_build.testing.report.page import render, write_report
from bootc_build.testing.report.records import MachineEntry, ReportedRun, ReportedTest
from bootc_build.vm.record import MachineRecord
from bootc_build.vm.waiting import wait_until
from tests.vm.boot_sectors import ECHO, write_guest

pytest_plugins = ["pytester"]

_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_SECONDS = 30
_EVIL = "<script>document.title = 'taken over'</script></script><img src=x onerror=alert(1)>"


def _machine(folder: Path, number: int = 0) -> MachineEntry:
    """A machine that printed four hundred lines in a hundred seconds; test_bad failed in the middle."""
    folder.mkdir(exist_ok=True)
    artifacts = MachineArtifacts(str(folder), f"machine{number}", f"os:1 {_EVIL}", "bios, tcg")
    cast = artifacts.path("recording")
    MachineRecord(cast, artifacts.path("monitor"), title="os:1").__exit__()
    events: list[tuple[float, str, str]] = [(0.0, "m", "power on")]
    for at in range(400):
        if at == 200:
            events.append((50.0, "m", "failed: test_it.py::test_bad: it went wrong"))
        events.append((at / 4, "o", f"\x1b[32mline {at}\x1b[0m {_EVIL}\r\n"))
    with cast.open("a") as file:
        file.writelines(f"{json.dumps(event)}\n" for event in events)
    with artifacts.path("monitor").open("a") as file:
        file.write('{"seconds": 1.0, "command": {"execute": "quit"}}\n')
    entry = "__MONOTONIC_TIMESTAMP=1500000\nPRIORITY=3\nSYSLOG_IDENTIFIER=sshd\nMESSAGE=no key\n\n"
    artifacts.path("journal export").write_bytes(gzip.compress(entry.encode()))
    artifacts.path("screenshot").write_bytes(_PIXEL)
    return MachineEntry(number, artifacts)


def _run(folder: Path) -> ReportedRun:
    machines = [_machine(folder, number) for number in range(2)]
    tests = [
        ReportedTest("test_it.py::test_good", "passed", 1.0, machines=[1]),
        ReportedTest(
            *("test_it.py::test_bad", "failed", 2.5, f"AssertionError: {_EVIL}"),
            sections={"Captured stdout call": "hello"},
            rerun="pytest test_it.py::test_bad",
            machines=[0],
        ),
        ReportedTest("test_it.py::test_left_out", "skipped", 0.0, "not here"),
    ]
    return ReportedRun(time.time(), 3.5, tests, machines)


class _Resources(HTMLParser):
    """Whatever in a page names something outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.found += [one for one in attrs if one[0] in {"src", "href", "srcset", "data-src"}]


def test_the_page_names_nothing_outside_of_itself(tmp_path: Path) -> None:
    page = render(_run(tmp_path / "machines"))
    resources = _Resources()
    resources.feed(page)
    assert resources.found == []
    assert not re.search(r"https?://|url\(|@import|import\(", page)
    assert "default-src 'none'" in page


def test_a_report_can_be_read_without_its_program(tmp_path: Path) -> None:
    page = render(_run(tmp_path / "machines"))
    visible = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for text in ("1 failed", "1 passed", "1 skipped", "pytest test_it.py::test_bad", "not here"):
        assert text in visible


def test_files_that_are_gone_leave_the_rest(tmp_path: Path) -> None:
    run = _run(tmp_path / "machines")
    for path in (tmp_path / "machines").iterdir():
        path.unlink()
    page = render(run)
    assert "data-machine=" not in page
    assert "test_it.py::test_bad" in page


# What the browser shows.


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--window-size=1400,900", f"--user-data-dir={profile}", "--no-first-run"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser: Chrome, tmp_path: Path) -> Chrome:
    """The browser with the report open, the failed test's machine in view."""
    write_report(_run(tmp_path / "machines"), tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    _until(lambda: _one(browser, "#viewer").is_displayed())
    return browser


def _until(condition: Callable[[], bool]) -> None:
    assert wait_until(condition, seconds=_SECONDS)


def _one(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def _rows(browser: Chrome) -> int:
    """How many lines of the console are unfolded."""
    script = "return document.querySelectorAll('#console .row:not([hidden])').length"
    return int(browser.execute_script(script))


def _is_in_view(browser: Chrome, selector: str) -> bool:
    script = """
        const pane = document.getElementById("console").getBoundingClientRect();
        const row = document.querySelector(arguments[0]).getBoundingClientRect();
        return row.height > 0 && row.top >= pane.top && row.bottom <= pane.bottom;
    """
    return bool(browser.execute_script(script, selector))


def _seek(browser: Chrome, seconds: float) -> None:
    script = """
        const slider = document.getElementById("seek");
        slider.value = arguments[0];
        slider.dispatchEvent(new Event("input"));
    """
    browser.execute_script(script, seconds)


def _logs(browser: Chrome, kind: str) -> list[Any]:
    return list(browser.get_log(kind))  # type: ignore[no-untyped-call]


def test_the_report_opens_at_the_failure(page: Chrome) -> None:
    failure = _one(page, "#console .row.found")
    assert "failed: test_it.py::test_bad: it went wrong" in failure.text
    _until(lambda: _is_in_view(page, "#console .row.found"))
    # Unfolded up to there, and no further: power on, two hundred lines, the failure, what came at that moment.
    assert _rows(page) == 1 + 200 + 1 + 1
    assert "50.000" in failure.text


def test_the_console_unfolds_along_its_own_clock(page: Chrome) -> None:
    _seek(page, 10)
    assert _rows(page) == 1 + 41
    assert _one(page, "#clock").text == "10.0 of 99.8 s"
    _one(page, "#speed option[value='64']").click()
    _one(page, "#play").click()
    _until(lambda: _rows(page) > 42)
    _until(lambda: _rows(page) == 402)
    assert _is_in_view(page, "#console .row:last-child")
    _one(page, "#jump").click()
    _until(lambda: _is_in_view(page, "#console .row.found"))
    assert _rows(page) == 203


def test_playing_can_be_stopped(page: Chrome) -> None:
    _seek(page, 0)
    _one(page, "#speed option[value='1']").click()
    _one(page, "#play").click()
    _until(lambda: _rows(page) > 2)
    _one(page, "#play").click()
    assert _one(page, "#play").text == "▶"
    assert _rows(page) < 402


def test_each_line_has_its_time_and_its_colours(page: Chrome) -> None:
    first = _one(page, "#console .row:nth-child(2)")
    stamp, text = first.find_elements(By.XPATH, "./span")
    assert stamp.get_attribute("textContent") == "0.000"
    assert text.get_attribute("textContent") == f"line 0 {_EVIL}"
    assert text.find_element(By.CSS_SELECTOR, ".c2").get_attribute("textContent") == "line 0"


def test_journal_screen_and_monitor_are_there(page: Chrome) -> None:
    for tab, text in (("journal", "sshd: no key"), ("monitor", "execute"), ("files", ".cast")):
        _one(page, f"[data-tab={tab}]").click()
        assert text in _one(page, f"#{tab}").text
    _one(page, "[data-tab=screenshot]").click()
    picture = _one(page, "#screenshot img")
    _until(lambda: picture.get_property("naturalWidth") == 1)


def test_a_machine_without_a_failure_is_shown_from_its_test(page: Chrome) -> None:
    page.find_element(By.CSS_SELECTOR, "#test-0 summary").click()
    _one(page, "#test-0 button.machine").click()
    _until(lambda: _one(page, "#who").text.startswith("machine1"))
    assert not _one(page, "#jump").is_displayed()
    assert _rows(page) == 402


def test_failures_alone_can_be_shown(page: Chrome) -> None:
    _one(page, "#only-bad").click()
    shown = [one.is_displayed() for one in page.find_elements(By.CSS_SELECTOR, ".test")]
    assert shown == [False, True, False]


def test_the_page_fetches_nothing_runs_nothing_foreign_and_complains_of_nothing(
    page: Chrome,
) -> None:
    assert page.title == "1 of 3 failed"
    messages = [json.loads(entry["message"])["message"] for entry in _logs(page, "performance")]
    asked = [
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    ]
    # The browser's own first page is a chrome: one.
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob", "chrome"}
    files = {url.rpartition("/")[2] for url in asked if url.startswith("file:")}
    assert files == {"report.html"}
    assert [one for one in _logs(page, "browser") if one["level"] in {"SEVERE", "WARNING"}] == []


# What test runs put into it.

_TESTS = """
from pathlib import Path
import pytest
from bootc_build.vm.spec import MachineSpec

SMALL = MachineSpec(name="small", memory_mib=64, cpus=1, network=False)

def test_bad(bootc_vm):
    machine = bootc_vm(Path("guest.raw"), spec=SMALL, boot=False)
    machine.start()
    machine.wait_for_console_text("Hello from the guest", seconds=30)
    assert 1 == 2, "it went wrong"

def test_good():
    print("said aloud")

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

def test_skipped():
    pytest.skip("not here")

@pytest.fixture
def broken():
    raise RuntimeError("no fixture")

def test_error(broken):
    pass
"""


def _documents(page: str) -> list[dict[str, Any]]:
    blobs = re.findall(r'<script type="application/gzip" id="machine-\d+">([^<]*)<', page)
    return [json.loads(gzip.decompress(base64.b64decode(blob))) for blob in blobs]


@pytest.mark.parametrize("spread", [(), ("-n2",)])
def test_a_run_reports_all_its_tests_and_the_consoles_of_those_that_failed(
    pytester: pytest.Pytester, spread: tuple[str, ...]
) -> None:
    write_guest(pytester.path / "guest.raw", "Hello from the guest\n", ECHO)
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_subprocess(
        "--bootc-accel=tcg", "--bootc-report=out/report.html", *spread
    )
    result.assert_outcomes(passed=1, failed=1, skipped=1, xfailed=1, errors=1)
    result.stdout.fnmatch_lines(["*generated report: */out/report.html*"])
    page = (pytester.path / "out/report.html").read_text()
    outcomes = dict(re.findall(r'class="test ([\w-]+)" id="test-\d+".*?::(\w+)<', page))
    assert {name: outcome for outcome, name in outcomes.items()} == {
        "test_bad": "failed",
        "test_good": "passed",
        "test_known": "expected-failure",
        "test_skipped": "skipped",
        "test_error": "error",
    }
    [machine] = _documents(page)
    texts = ["".join(text for text, _ in parts) for _, _, parts in machine["lines"]]
    assert "Hello from the guest" in texts
    assert any(one.startswith("failed: ") and "it went wrong" in one for one in texts)
    assert machine["screenshot"]
    assert page.count("no fixture") >= 1


def test_a_file_that_cannot_be_collected_is_in_the_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("this is no Python")
    pytester.runpytest_subprocess("--bootc-report=report.html")
    page = (pytester.path / "report.html").read_text()
    assert "1 of 1 failed" in page
    assert "SyntaxError" in page
