"""What people decided, read back for training."""

import pytest
import sqlalchemy as sa

from pacs_guard.domain.labels import Label, Place
from pacs_guard.domain.policy import Decision, Judgement
from pacs_guard.domain.verdict import Verdict
from pacs_guard.errors import NotFoundError, QueueError
from pacs_guard.queue import schema
from pacs_guard.queue.labels import Labels
from pacs_guard.queue.reviewed import presumed_clean, reviewed_studies


@pytest.fixture
def labels(node):
    return Labels(node.database, node.clock)


def test_the_last_decision_of_a_person_counts_and_other_studies_are_left_out(node, instance):
    for study in ("1.2", "1.3", "1.4"):
        node.complete(instance(1, study=study))
        node.decide(node.suspected)
    node.review.reject(1, who="rad", reason="forged")
    node.review.reject(2, who="rad", reason="forged")
    node.review.release(2, who="chief", reason="mistake", destinations=("pacs",))
    node.review.note_retry(2, who="it", reason="again")
    rejected, released = reviewed_studies(node.database, node.review)
    assert (rejected.id, rejected.action, rejected.who, rejected.reason) == (1, "reject", "rad", "forged")
    assert (released.id, released.action, released.who, released.at) == (2, "release", "chief", node.clock.now)
    assert [one.key.study_uid for one in rejected.instances] == ["1.2"]
    assert rejected.gone == 0
    assert rejected.findings


def test_a_label_corrects_a_decision_and_a_later_decision_counts_again(node, labels, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    node.review.release(1, who="rad", reason="nothing there", destinations=("pacs",))
    node.clock.move(1)
    place = Place.parse("FB:1.2.1.1:20:30")
    labels.add(1, Label.TAMPERED, [place], who="chief", reason="a tumour was removed")
    [study] = reviewed_studies(node.database, node.review)
    assert (study.action, study.label, study.who) == ("label", "tampered", "chief")
    assert study.places == ({"kind": "FB", "sop_uid": "1.2.1.1", "x": 20.0, "y": 30.0, "detector": ""},)
    assert node.state() == "forwarding"
    assert [one["action"] for one in node.review.details(1).actions] == ["release", "label tampered"]
    node.clock.move(1)
    labels.add(1, Label.NONE, who="chief", reason="artefacts")
    assert list(reviewed_studies(node.database, node.review)) == []


def test_any_study_can_be_labelled_a_missed_one_too(node, labels, instance):
    node.forward(instance(1))
    labels.add(1, Label.TAMPERED, [Place.parse("FM:1.2.1.1:5:6")], who="rad", reason="missed")
    [study] = reviewed_studies(node.database, node.review)
    assert (study.label, len(study.places)) == ("tampered", 1)
    with pytest.raises(NotFoundError, match=r"study 1 has no instance 1\.2\.1\.9"):
        labels.add(1, Label.TAMPERED, [Place.parse("FM:1.2.1.9:5:6")], who="rad", reason="missed")
    with pytest.raises(ValueError, match="expected tampered"):
        labels.add(1, Label.CLEAN, [Place.parse("FM:1.2.1.1:5:6")], who="rad", reason="missed")
    with pytest.raises(NotFoundError):
        labels.add(7, Label.CLEAN, who="rad", reason="none")


@pytest.mark.parametrize("text", ["FM:1.2.3:1", "whole:1.2.3:1:2", "FM:1.2.3:-1:2", "FM:1.2.3:nan:2", "FM:1.2.3:x:2"])
def test_a_place_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="was given; expected"):
        Place.parse(text)


def test_a_label_cannot_be_changed_or_removed(node, labels, instance):
    node.forward(instance(1))
    labels.add(1, Label.CLEAN, who="rad", reason="looked")
    with pytest.raises(QueueError, match="recorded for good"), node.database.write() as connection:
        connection.execute(sa.delete(schema.labels))


def test_what_passed_and_nobody_decided_about_is_presumed_clean(node, labels, instance):
    shadow = Judgement(Decision.FORWARD, Verdict.SUSPECTED, "suspected, in shadow mode")
    for number, judgement in enumerate((node.clean, node.clean, shadow, node.suspected, node.clean), start=1):
        node.complete(instance(1, study=f"1.{number}", source="mr" if number == 5 else "ct"))
        node.decide(judgement)
    labels.add(2, Label.TAMPERED, who="rad", reason="missed")
    node.review.release(4, who="rad", reason="false alarm", destinations=("pacs",))

    def found(**which):
        return [one.id for one in presumed_clean(node.database, **which)]

    assert found() == [5, 1]
    assert found(suspected=True) == [5, 3, 1]
    assert found(suspected=True, source="ct", limit=1) == [3]
