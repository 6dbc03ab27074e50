"""The registry's part of the pytest plugin, by test runs of its own."""

import pytest

pytest_plugins = ["pytester"]

_ASK = """
import urllib.request
import pytest

def ask(registry, path="/v2/"):
    with urllib.request.urlopen(f"http://{registry.address}{path}") as answer:
        return answer.status
"""


def _run(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    pytester.makepyfile(_ASK + body)
    return pytester.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider")


def test_the_registry_fixture_gives_a_registry(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
def test_it(bootc_registry):
    assert ask(bootc_registry) == 200
""",
    )
    result.assert_outcomes(passed=1)


def test_a_fault_that_was_expected_and_never_happened_fails_the_test(
    pytester: pytest.Pytester,
) -> None:
    result = _run(
        pytester,
        """
def test_it(bootc_registry):
    bootc_registry.faults.expect("layer").truncate(1)
    ask(bootc_registry)
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*GET layer: cut after 1 bytes: never happened", "*All requests:", "*GET /v2/: 200*"]
    )


def test_a_test_that_fails_is_not_blamed_for_what_did_not_happen_after_it(
    pytester: pytest.Pytester,
) -> None:
    result = _run(
        pytester,
        """
def test_it(bootc_registry):
    bootc_registry.faults.expect("layer").truncate(1)
    ask(bootc_registry)
    assert "this" == "that"
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*never happened*")
    result.stdout.fnmatch_lines(["*registry 127.0.0.1:*", "*GET /v2/: 200*"])


def test_a_fault_that_happened_passes(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
def test_it(bootc_registry):
    bootc_registry.faults.expect("ping").respond(503)
    with pytest.raises(urllib.error.HTTPError):
        ask(bootc_registry)
""",
    )
    result.assert_outcomes(passed=1)


def test_the_marker_takes_the_options(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
import ssl

@pytest.mark.bootc_registry(tls=True, auth=("user", "secret"))
def test_it(bootc_registry):
    context = ssl.create_default_context(cafile=bootc_registry.authority)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"https://{bootc_registry.address}/v2/", context=context)
""",
    )
    result.assert_outcomes(passed=1)


def test_tests_of_a_module_share_a_registry_but_no_expectations(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
pytestmark = pytest.mark.bootc_registry(auth=("user", "secret"))
ports = set()

def test_one(bootc_registry_module):
    ports.add(bootc_registry_module.port)
    bootc_registry_module.faults.expect("layer").truncate(1)
    bootc_registry_module.faults.expect("ping", times=None).respond(503)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        ask(bootc_registry_module)

def test_two(bootc_registry_module):
    assert bootc_registry_module.requests() == ()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(bootc_registry_module)
    assert ports == {bootc_registry_module.port}

def test_three():
    pass
""",
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*GET layer: cut after 1 bytes: never happened"])


def test_an_option_that_is_not_there_is_named(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
@pytest.mark.bootc_registry(tsl=True)
def test_it(bootc_registry):
    pass
""",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*takes tls=* and auth=(user, password) only*"])


def test_a_fault_by_name_is_over_after_its_block(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
def test_it(bootc_registry, bootc_fault):
    with bootc_fault("registry-down") as fault:
        assert not fault.passes
        with pytest.raises(OSError):
            ask(bootc_registry)
    assert ask(bootc_registry) == 200
""",
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("registry-503", "*GET tag: answered 503: never happened"),
        ("none", "*There is no fault 'none'.*"),
        ("expired-certificate", "*needs a registry with TLS*"),
    ],
)
def test_a_fault_by_name_that_cannot_be_or_did_not_happen_fails_the_test(
    pytester: pytest.Pytester, name: str, said: str
) -> None:
    result = _run(
        pytester,
        f"""
def test_it(bootc_fault):
    with bootc_fault("{name}"):
        pass
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([said])
