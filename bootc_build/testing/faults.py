"""Faults with a name, for parametrised tests: what a registry can do to the hosts that follow it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from bootc_build.onhost.errors import UsageError

if TYPE_CHECKING:
    from bootc_build.vm.registry import Registry
    from bootc_build.vm.registry_faults import Faults

# Less than any layer has.
_BYTES = 64
_SLOW_BYTES_PER_SECOND = 500_000


@dataclass(frozen=True)
class NamedFault:
    """A way in which fetching goes wrong.

    Attributes:
        passes: a client that tries again by itself gets through; otherwise it has to fail, and harm nothing.
        needs_tls: the registry has to have TLS.
        begin: arms it.
    """

    passes: bool
    begin: Callable[["Faults"], object]
    needs_tls: bool = False


REGISTRY_FAULTS: Mapping[str, NamedFault] = MappingProxyType(
    {
        "registry-503": NamedFault(True, lambda it: it.expect("tag", times=2).respond(503)),
        "registry-429": NamedFault(True, lambda it: it.expect("tag").respond(429, retry_after=1)),
        "layer-503": NamedFault(True, lambda it: it.expect("layer", times=2).respond(503)),
        "truncated-layer": NamedFault(True, lambda it: it.expect("layer").truncate(_BYTES)),
        "reset-connection": NamedFault(True, lambda it: it.expect("layer").drop(_BYTES)),
        "wrong-bytes": NamedFault(True, lambda it: it.expect("layer").corrupt()),
        "stalled-layer": NamedFault(True, lambda it: it.expect("layer").stall(_BYTES)),
        "slow-layers": NamedFault(
            True, lambda it: it.expect("layer", times=None).slow(_SLOW_BYTES_PER_SECOND)
        ),
        "wrong-bytes-always": NamedFault(
            False, lambda it: it.expect("layer", times=None).corrupt()
        ),
        "credentials-expire": NamedFault(
            False, lambda it: it.expect("layer", times=None).respond(401)
        ),
        "registry-down": NamedFault(False, lambda it: it.expect(times=None).drop()),
        "expired-certificate": NamedFault(
            False, lambda it: it.expire_certificate(), needs_tls=True
        ),
    }
)
"""By name. Each ends with `Faults.clear()`."""


@contextmanager
def registry_fault(registry: "Registry", name: str) -> Iterator[NamedFault]:
    """Let a registry have a fault inside the block; at its end it must have happened, and is over.

    Args:
        registry: which one.
        name: of `REGISTRY_FAULTS`.

    Raises:
        UsageError: there is no such fault, or it needs another registry.
        FaultExpectationError: it has not happened.
    """
    fault = REGISTRY_FAULTS.get(name)
    if fault is None:
        raise UsageError(f"There is no fault '{name}'.", f"There are: {', '.join(REGISTRY_FAULTS)}")
    if fault.needs_tls and not registry.has_tls:
        raise UsageError(
            f"The fault '{name}' needs a registry with TLS.",
            "Mark the test with @pytest.mark.bootc_registry(tls=True).",
        )
    fault.begin(registry.faults)
    yield fault
    registry.faults.check()
    registry.faults.clear()
