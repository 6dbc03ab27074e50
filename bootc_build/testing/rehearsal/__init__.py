"""The rehearsal of an image: what a machine that takes it will go through, done in virtual machines first.

The checks are `checks.py`, an ordinary pytest file that needs nothing but the plugin's own fixtures;
`rehearse()` runs it, and the user's own pytest files beside it, and returns what came of each check.
"""

from bootc_build.testing.rehearsal.outcome import Check, Outcome, Rehearsed
from bootc_build.testing.rehearsal.session import Rehearsal, rehearse

__all__ = ["Check", "Outcome", "Rehearsal", "Rehearsed", "rehearse"]
