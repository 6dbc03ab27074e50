"""Try again what may be better the next time: how often, and how long to wait between.

skopeo itself waits as long as a registry says with 429 and Retry-After; what comes through to here has been
tried that way already. Other answers reach us as words without headers, so the waits are ours.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.fetch_errors import TooManyRequestsError, TransientFetchError

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """Waits that double, with jitter so that a fleet does not come back all at once.

    Args:
        attempts: how often something is tried in all.
        first_seconds: the longest that the first wait may be; the second may be twice that, and so on.
        most_seconds: no wait is longer.
        busy_seconds: no wait is shorter when the registry asked to be left alone.
    """

    attempts: int = 6
    first_seconds: float = 1.0
    most_seconds: float = 60.0
    busy_seconds: float = 15.0

    def seconds(self, failed: int, error: UserError) -> float:
        """How long to wait after so many failures (from 1): between half of the longest and all of it."""
        longest = min(self.most_seconds, self.first_seconds * float(2 ** (failed - 1)))
        least = self.busy_seconds if isinstance(error, TooManyRequestsError) else 0.0
        return max(least, longest * random.uniform(0.5, 1))  # noqa: S311 - no secret depends on it


BACKOFF: Final = Backoff()


def retrying(
    work: Callable[[], T],
    backoff: Backoff,
    *,
    is_transient: Callable[[UserError, int], bool] | None = None,
    on_wait: Callable[[str], None] = lambda _text: None,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """Do something until it works, or cannot work, or was tried often enough.

    Args:
        work: what to do.
        backoff: how often and how patiently.
        is_transient: whether an error after so many failures is worth another try; `TransientFetchError` by default.
        on_wait: hears what failed and how long is waited.
        sleep: waits so many seconds.

    Raises:
        UserError: the last one.
    """
    for failed in range(1, backoff.attempts + 1):
        try:
            return work()
        except UserError as error:
            transient = (
                isinstance(error, TransientFetchError)
                if is_transient is None
                else is_transient(error, failed)
            )
            if not transient or failed == backoff.attempts:
                raise
            seconds = backoff.seconds(failed, error)
            on_wait(
                f"{error.fact} Trying again in {seconds:.0f} s ({failed} of {backoff.attempts - 1})."
            )
        sleep(seconds)
    raise AssertionError("attempts is at least 1")
