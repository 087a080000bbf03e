from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from pacs_guard.deliver.results.maker import ResultMaker


class Queue:
    """The queue's results, in memory."""

    def __init__(self, result) -> None:
        self.waiting = [result]
        self.made_objects: list = []
        self.failures: list = []

    def claim_to_make(self, owner, seconds):
        return self.waiting.pop() if self.waiting else None

    def made(self, result, objects, destination):
        self.made_objects.append((len(objects), destination))

    def not_made(self, result, error, retry_in):
        self.failures.append((error, retry_in))


@pytest.fixture
def room(study):
    queue = Queue(study.result)
    return queue, ResultMaker(queue, study.data_dir, study.spool_dir, "PACSGUARD", "review")


def test_made_objects_are_written_down_with_where_they_go(room):
    queue, maker = room
    assert maker.step()
    assert not maker.step()
    assert queue.made_objects == [(2, "review")]


def test_what_may_pass_is_tried_again_and_what_cannot_is_given_up(room, study):
    queue, maker = room
    (study.evidence / "series-1" / "finding.png").unlink()
    with capture_logs():
        maker.step()
    [(error, retry_in)] = queue.failures
    assert error.startswith("FileNotFoundError")
    assert retry_in == 10.0
    queue.waiting.append(study.result)
    for file in study.spool_dir.iterdir():
        file.unlink()
    with capture_logs() as logs:
        maker.step()
    assert queue.failures[1] == (
        "no instance of the study can be read any more; the objects need its patient and study",
        None,
    )
    assert logs[-1]["log_level"] == "error"
