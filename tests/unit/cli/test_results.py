from __future__ import annotations

from types import SimpleNamespace

import pytest

from pacs_guard.cli import results
from pacs_guard.cli.results import ResultsRoom
from pacs_guard.config import Settings


class Room:
    def __init__(self, settings):
        self.destination = settings.results.destination
        self.is_alive = False

    def start(self):
        self.is_alive = True

    def stop(self, _timeout):
        self.is_alive = False
        return True


def settings(**more):
    return Settings(
        results=more, sources=[{"name": "a", "ae_titles": ["A"]}], destinations=[{"name": "pacs", "ae_title": "PACS"}]
    )


@pytest.fixture
def rooms(monkeypatch):
    made = []

    def make(_stores, changed, _metrics):
        if not changed.results.enabled:
            return None
        made.append(Room(changed))
        return made[-1]

    monkeypatch.setattr(results, "result_room", make)
    return made


def test_results_are_made_as_the_settings_in_force_say(rooms):
    room = ResultsRoom(SimpleNamespace(settings=settings()), None)
    room.start()
    room.reconfigure(settings())
    assert len(rooms) == 1  # nothing changed
    room.reconfigure(settings(destination={"name": "review", "ae_title": "REVIEW"}))
    assert [one.is_alive for one in rooms] == [False, True]
    assert rooms[1].destination.name == "review"
    room.reconfigure(settings(enabled=False))
    assert [one.is_alive for one in rooms] == [False, False]
    assert room.is_alive  # that there is nothing to do is no fault
    room.reconfigure(settings())
    assert room.is_alive
    assert rooms[2].is_alive
    assert room.stop(1.0)
    assert not rooms[2].is_alive
