"""What people decided, read back for training."""

from pacs_guard.queue.reviewed import reviewed_studies


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
