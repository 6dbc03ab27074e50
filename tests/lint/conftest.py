from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.lint.model import Finding
from bootc_build.onhost.lint.registry import lint_root
from bootc_build.onhost.lint.root import Root


@pytest.fixture
def findings(tree: Path) -> Callable[[], list[Finding]]:
    return lambda: list(lint_root(Root(tree)).findings)
