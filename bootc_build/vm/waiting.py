"""The one polling primitive: wait for a condition, never for time to pass."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], *, seconds: float, first_interval: float = 0.05
) -> bool:
    """Ask again and again, at growing intervals of at most one second, until it is true.

    Args:
        condition: what is asked; it is asked at least once.
        seconds: how long to go on asking.
        first_interval: seconds between the first two questions.

    Returns:
        Whether it became true in time.
    """
    deadline = time.monotonic() + seconds
    interval = first_interval
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(interval, left))
        interval = min(interval * 1.5, 1.0)
    return True
