"""Findings as text for people and as plain data for machines."""

from collections.abc import Callable, Iterator
from typing import Any

from bootc_build.onhost.lint.model import Finding, Level
from bootc_build.onhost.lint.registry import LINTS, Report

_PATHS_SHOWN = 5


def finding_lines(
    found: Finding,
    *,
    all_paths: bool = False,
    step_of: Callable[[str], str | None] = lambda _path: None,
) -> Iterator[str]:
    """One finding as lines: what, where, which step made it, what to do.

    Args:
        found: the finding.
        all_paths: show every path, not the first five.
        step_of: the Containerfile step that made a path, where it is known.
    """
    head = "Failed lint" if found.level is Level.FATAL else "Lint warning"
    yield f"{head}: {found.lint}: {found.message}"
    shown = found.paths if all_paths else found.paths[:_PATHS_SHOWN]
    for path in shown:
        step = step_of(path)
        yield f"    {path}" + (f"  (made by: {step})" if step else "")
    if len(shown) < len(found.paths):
        yield f"    … and {len(found.paths) - len(shown)} more"
    yield f"    Remedy: {found.remedy}"


def summary_lines(report: Report) -> Iterator[str]:
    """How many lints passed, were skipped, warned."""
    yield f"Checks passed: {len(report.passed)}"
    if report.skipped:
        yield f"Checks skipped: {len(report.skipped)}"
    if report.warnings:
        yield f"Warnings: {len(report.warnings)}"


def report_data(report: Report) -> dict[str, Any]:
    """The report as a JSON document's content."""
    return {
        "findings": [
            {
                "lint": found.lint,
                "level": found.level.value,
                "message": found.message,
                "remedy": found.remedy,
                "paths": list(found.paths),
            }
            for found in report.findings
        ],
        "passed": list(report.passed),
        "skipped": list(report.skipped),
    }


def lint_list() -> list[dict[str, str]]:
    """Every lint: name, type, description, and the kind of root when it is for one only."""
    return [
        {
            "name": lint.name,
            "type": lint.level.value,
            "description": lint.description,
            **({"root-type": lint.only.value} if lint.only else {}),
        }
        for lint in LINTS
    ]
