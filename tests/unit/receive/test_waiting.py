from __future__ import annotations

import queue
import socket
from types import SimpleNamespace

import pytest

from pacs_guard.receive.waiting import WaitingConnections


class Waiting:
    """A connection as `WaitingConnections` sees it."""

    def __init__(self, address):
        self.peer, mine = socket.socketpair()
        self.requestor = SimpleNamespace(address=address)
        self.dul = SimpleNamespace(socket=SimpleNamespace(socket=mine), to_user_queue=queue.Queue(), has_received=False)

    @property
    def is_closed(self):
        self.peer.setblocking(False)
        try:
            return self.peer.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def come():
    made = []

    def make(waiting, *addresses):
        for address in addresses:
            made.append(Waiting(address))
            waiting.add(made[-1])
        return made[-len(addresses) :]

    yield make
    for one in made:
        one.peer.close()
        one.dul.socket.socket.close()


def closed(connections):
    return [number for number, one in enumerate(connections) if one.is_closed]


def test_the_one_that_waited_longest_gives_way(come):
    assert closed(come(WaitingConnections(2), "a", "a", "a", "a")) == [0, 1]


def test_an_address_with_many_takes_no_place_from_another(come):
    assert closed(come(WaitingConnections(3), "a", "b", "b", "b", "b")) == [1, 2]


@pytest.mark.parametrize("is_read", [False, True])
def test_whoever_sent_a_request_stays_before_the_silent(come, is_read):
    waiting = WaitingConnections(2)
    [first] = come(waiting, "a")
    if is_read:
        first.dul.has_received = True
    else:
        first.peer.send(b"request")
    assert closed([first, *come(waiting, "a", "a", "a")]) == [1, 2]


def test_room_can_be_made_although_nobody_waits(come):
    waiting = WaitingConnections(2)
    waiting.make_room()
    [one] = come(waiting, "a")
    waiting.make_room()
    assert one.is_closed
    assert len(waiting) == 0
