"""Faults between a registry and those who fetch from it: what a test expects, and what it then does to it.

registry.faults.expect("layer").truncate(1000)              # the first layer that is fetched, once
registry.faults.expect("tag", times=3).respond(503, retry_after=1)
registry.faults.forbid("layer")                             # all layers are there already
...
registry.faults.check()                                     # the fixture does this after each test
"""

import re
from dataclasses import dataclass
from threading import Lock
from typing import Self

from bootc_build.vm.registry_log import Kind, RegistryRequest, RequestLog
from bootc_build.vm.registry_mishaps import (
    Corruption,
    Cut,
    Mishap,
    Refusal,
    Slowness,
    Stall,
    TagSwap,
)
from bootc_build.vm.waiting import wait_until


class FaultExpectationError(AssertionError):
    """What a test expects of a registry's clients did not happen, or something else did."""


@dataclass(frozen=True)
class Wanted:
    """Which requests an expectation is about: see `Faults.expect()`."""

    kind: Kind | None
    method: str
    path: re.Pattern[str] | None
    nth: int
    times: int | None

    def fits(self, request: RegistryRequest) -> bool:
        """Whether it is about such a request."""
        return (
            request.method == self.method
            and (self.kind is None or self.kind in request.kinds)
            and (self.path is None or self.path.search(request.path) is not None)
        )

    def __str__(self) -> str:
        path = f" /{self.path.pattern}/" if self.path else ""
        begin = f", from number {self.nth} on" if self.nth > 1 else ""
        return f"{self.method} {self.kind or 'anything'}{path}{begin}"


class Expectation:
    """Requests that a test expects, and what befalls them. Obtain one from `Faults.expect()`.

    Without any of the verbs below the requests are only expected, and answered as ever.
    """

    def __init__(self, wanted: Wanted, mishap: Mishap | None = None) -> None:
        self._wanted = wanted
        self._mishap = mishap or Mishap()
        self._lock = Lock()
        self._offered = 0
        self._happened = 0

    # What befalls the requests.

    def respond(self, status: int, *, retry_after: int | None = None, message: str = "") -> Self:
        """They are answered with a status, and the registry does not hear of them.

        Args:
            status: such as 503; 401 as when credentials have expired.
            retry_after: seconds, for the Retry-After header.
            message: in the answer; by default the status in words.
        """
        return self._befalls(Refusal(status, retry_after, message))

    def drop(self, after_bytes: int | None = None) -> Self:
        """The connection is reset, before any answer or after so many bytes of the body."""
        return self._befalls(Cut(after_bytes, reset=True))

    def truncate(self, after_bytes: int) -> Self:
        """The connection is closed in good order after so many bytes of the body."""
        return self._befalls(Cut(after_bytes, reset=False))

    def corrupt(self, count: int = 1, *, at: int | None = None) -> Self:
        """So many bytes of the body are wrong; its length is right.

        Args:
            count: how many.
            at: where the first of them is; by default they are in the middle.
        """
        return self._befalls(Corruption(count, at))

    def stall(self, after_bytes: int = 0) -> Self:
        """After so many bytes of the body nothing comes any more, until `release()`."""
        return self._befalls(Stall(after_bytes))

    def slow(self, bytes_per_second: int) -> Self:
        """The body comes slowly."""
        return self._befalls(Slowness(bytes_per_second))

    def swap_tag(self, tag: str, *, to: str) -> Self:
        """Before the answer, a tag of the repository becomes what another tag (or digest) of it is."""
        return self._befalls(TagSwap(tag, to))

    def _befalls(self, mishap: Mishap) -> Self:
        self._mishap = mishap
        return self

    # What came of it.

    @property
    def happened(self) -> int:
        """How many times it has happened.

        A fault counts when it had an effect: a body of 10 bytes that was to be cut after 1000 was not cut.
        """
        with self._lock:
            return self._happened

    def wait(self, seconds: float) -> None:
        """Wait until it has happened.

        Raises:
            FaultExpectationError: it did not, within so many seconds.
        """
        if not wait_until(lambda: self.happened > 0, seconds=seconds):
            raise FaultExpectationError(f"{self} did not happen within {seconds:.0f} seconds")

    def release(self) -> None:
        """Let a stalled answer go on, and those to come."""
        self._mishap.release()

    @property
    def shortfall(self) -> str:
        """What is missing, in words; empty when nothing is."""
        happened, times = self.happened, self._wanted.times
        if happened >= (1 if times is None else times):
            return ""
        return f"{self}: " + (f"{happened} of {times} times" if happened else "never happened")

    def __str__(self) -> str:
        return f"{self._wanted}: {self._mishap}"

    # For the proxy.

    def take(self, request: RegistryRequest) -> bool:
        """Whether it is about this request; a request that it is about is counted."""
        if not self._wanted.fits(request):
            return False
        with self._lock:
            self._offered += 1
            number = self._offered - self._wanted.nth
            return number >= 0 and (self._wanted.times is None or number < self._wanted.times)

    def count(self) -> None:
        """It has had its effect on one more request."""
        with self._lock:
            self._happened += 1

    @property
    def mishap(self) -> Mishap:
        """What befalls the requests."""
        return self._mishap

    @property
    def forbids(self) -> bool:
        """Whether no such request may come."""
        return isinstance(self._mishap, _Forbidden)


class _Forbidden(Refusal):
    def __init__(self) -> None:
        super().__init__(403, message="the test expects no such request")

    def __str__(self) -> str:
        return "forbidden"


class Faults:
    """The expectations of one registry; may be used from several threads.

    The first expectation, in the order of their making, that is about a request takes it; the others do not
    count it.

    Args:
        log: where the requests stand.
    """

    def __init__(self, log: RequestLog) -> None:
        self._log = log
        self._lock = Lock()
        self._expectations: list[Expectation] = []
        self._violations: list[RegistryRequest] = []
        self._refuse_others = False
        self._certificate_expired = False
        self._expired_shown: int | None = None

    def expect(
        self,
        kind: Kind | None = None,
        *,
        path: str | None = None,
        method: str = "GET",
        nth: int = 1,
        times: int | None = 1,
    ) -> Expectation:
        """Expect requests, and say (by a verb of what is returned) what befalls them.

        Args:
            kind: what they are about; any when None.
            path: a regular expression that is searched for in the path.
            method: of HTTP.
            nth: the first such request that counts; those before are answered as ever.
            times: so many requests, all of which have to come; None: any number from one on.
        """
        pattern = re.compile(path) if path is not None else None
        return self._add(Expectation(Wanted(kind, method, pattern, nth, times)))

    def forbid(
        self, kind: Kind | None = None, *, path: str | None = None, method: str = "GET"
    ) -> None:
        """Such requests are refused (403) and fail the test."""
        pattern = re.compile(path) if path is not None else None
        self._add(Expectation(Wanted(kind, method, pattern, 1, None), _Forbidden()))

    def refuse_others(self) -> None:
        """From now on, whatever no expectation is about is refused (403) and fails the test."""
        self._refuse_others = True

    def expire_certificate(self) -> None:
        """From now on the server presents a certificate that is no longer valid, until `renew_certificate()`.

        Some client has to meet it, or `check()` fails.
        """
        with self._lock:
            self._certificate_expired = True
            self._expired_shown = self._expired_shown or 0

    def renew_certificate(self) -> None:
        """From now on the server presents a good certificate again."""
        self._certificate_expired = False

    def check(self) -> None:
        """What was expected has happened, and nothing that was not.

        Raises:
            FaultExpectationError: otherwise; lists the requests that were seen.
        """
        with self._lock:
            missing = [each.shortfall for each in self._expectations if not each.forbids]
            missing = [each for each in missing if each]
            if self._expired_shown == 0:
                missing.append("no client has met the expired certificate")
            violations = [str(request) for request in self._violations]
        if not missing and not violations:
            return
        seen = self._log.text().splitlines() or ["none"]
        raise FaultExpectationError(
            "\n".join(
                _section("Expected of the registry's clients, but not seen:", missing)
                + _section("Not expected, but seen:", violations)
                + _section("All requests:", seen)
            )
        )

    def clear(self) -> None:
        """Forget all expectations and what came of them; what stalls, goes on."""
        with self._lock:
            for each in self._expectations:
                each.release()
            self._expectations.clear()
            self._violations.clear()
            self._refuse_others = self._certificate_expired = False
            self._expired_shown = None

    def _add(self, expectation: Expectation) -> Expectation:
        with self._lock:
            self._expectations.append(expectation)
        return expectation

    # For the proxy.

    def take(self, request: RegistryRequest) -> Expectation | None:
        """The expectation that a request falls under."""
        with self._lock:
            taker = next((each for each in self._expectations if each.take(request)), None)
            if taker is None and self._refuse_others:
                taker = Expectation(Wanted(None, request.method, None, 1, None), _Forbidden())
            if taker is not None and taker.forbids:
                self._violations.append(request)
        return taker

    @property
    def certificate_expired(self) -> bool:
        """Whether an expired certificate is to be presented."""
        return self._certificate_expired

    def expired_certificate_shown(self) -> None:
        """A client has met the expired certificate."""
        with self._lock:
            self._expired_shown = (self._expired_shown or 0) + 1


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []
