"""One step of the soak that `./dev soak` goes on with for hours."""

import pytest

from test_vms.example_os import Versions
from test_vms.soak import prepared


@pytest.mark.long
def test_a_step_of_the_soak_keeps_its_promises(versions: Versions) -> None:
    said: list[str] = []
    with prepared(versions.one, versions.two, 7, said.append) as soak:
        soak.step()
        assert soak.cuts >= 2
    assert said[-1].startswith("step 1: ")
