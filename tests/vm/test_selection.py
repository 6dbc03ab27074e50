"""Which of the machines' tests run by themselves, by test runs of their own."""

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers =\n    long: left out unless --all is given")
    pytester.makeconftest("from test_vms.selection import *")
    pytester.makepyfile(
        test_suite="""
        import pytest

        def test_short(): pass

        @pytest.mark.long
        @pytest.mark.parametrize("number", [1, 2])
        def test_long(number): pass
        """
    )


@pytest.mark.parametrize(
    ("arguments", "passed", "left_out"),
    [
        ((), 1, 2),
        (("test_suite.py",), 1, 2),
        (("--all",), 3, 0),
        (("test_suite.py::test_long",), 2, 0),
        (("test_suite.py::test_long[1]",), 1, 0),
        (("-m", "long"), 2, 0),
        (("-n", "2"), 1, 2),
    ],
)
def test_long_tests_run_when_asked_for(
    pytester: pytest.Pytester, arguments: tuple[str, ...], passed: int, left_out: int
) -> None:
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=passed, deselected=None)
    said = "2 long tests were left out. All of them: ./dev test-vms --all"
    assert (said in result.outlines) == (left_out == 2)
