"""The switch of a private network, with sockets for machines."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from bootc_build.vm.network import PrivateNetwork
from bootc_build.vm.waiting import wait_until

Plug = Callable[[int], list[socket.socket]]


@pytest.fixture
def network() -> Iterator[PrivateNetwork]:
    with PrivateNetwork("test") as one:
        yield one


@pytest.fixture
def plug_in(network: PrivateNetwork) -> Iterator[Plug]:
    """Plugs so many cards in."""
    with ExitStack() as stack:

        def plugged(count: int) -> list[socket.socket]:
            cards = [stack.enter_context(network.plug_in()) for _ in range(count)]
            for card in cards:
                card.settimeout(20)
            return cards

        yield plugged


def _framed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame


def _receive(card: socket.socket) -> bytes:
    length = int.from_bytes(_exactly(card, 4), "big")
    return _exactly(card, length)


def _exactly(card: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = card.recv(count - len(data))
        assert chunk
        data += chunk
    return data


def test_a_frame_goes_to_all_others_and_not_back(plug_in: Plug) -> None:
    one, two, three = plug_in(3)
    one.sendall(_framed(b"from one"))
    assert (_receive(two), _receive(three)) == (b"from one", b"from one")
    two.sendall(_framed(b"from two"))
    assert (_receive(one), _receive(three)) == (b"from two", b"from two")


def test_frames_stay_whole_however_they_come(plug_in: Plug) -> None:
    one, two = plug_in(2)
    frames = [bytes([number]) * (number * 40) for number in range(1, 40)]
    stream = b"".join(map(_framed, frames))
    for at in range(0, len(stream), 7):
        one.sendall(stream[at : at + 7])
    assert [_receive(two) for _ in frames] == frames


def test_who_takes_nothing_does_not_hold_the_others_up(plug_in: Plug) -> None:
    one, deaf, two = plug_in(3)
    frames = [number.to_bytes(2, "big") * 30_000 for number in range(60)]
    for frame in frames:
        one.sendall(_framed(frame))
        assert _receive(two) == frame
    # What it was too slow for is lost, and what comes is whole and in order.
    got = []
    deaf.settimeout(1)
    with suppress(TimeoutError):
        while True:
            got.append(_receive(deaf))
    assert 0 < len(got) < len(frames)
    assert got == frames[: len(got)]
    deaf.settimeout(20)
    one.sendall(_framed(b"again"))
    assert _receive(deaf) == b"again"


def test_a_machine_that_is_gone_is_unplugged(network: PrivateNetwork, plug_in: Plug) -> None:
    one, two, gone = plug_in(3)
    gone.close()
    assert wait_until(lambda: len(network._ports) == 2, seconds=20)
    one.sendall(_framed(b"still there"))
    assert _receive(two) == b"still there"


def test_the_end_of_a_network_is_the_end_of_its_cables() -> None:
    with PrivateNetwork() as network:
        card = network.plug_in()
    with card:
        assert card.recv(1) == b""
    assert not network._thread.is_alive()
