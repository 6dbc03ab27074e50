"""What is noted of a publication."""

import os
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.publish.state import State


def test_a_note_that_cannot_be_written_is_an_error_with_a_remedy() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(UserError, match=r"cannot be noted in 'x.publish': No space") as error:
            State(Path("x.publish"), descriptor, "token").note(block=1)
        assert "Make room" in error.value.remedy
    finally:
        os.close(descriptor)
