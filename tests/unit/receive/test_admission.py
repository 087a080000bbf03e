from __future__ import annotations

import pytest

from pacs_guard.config import Settings
from pacs_guard.receive.admission import Admission, Reason, Rejection, Request, is_within
from pacs_guard.tls.certificates import Certificate


def admission(**receive) -> Admission:
    return Admission(
        Settings(
            receive={"max_associations": 2, "min_free_bytes": 100, **receive},
            sources=[
                {"name": "ct", "ae_titles": ["CT1", "CT2"], "addresses": ["10.1.0.0/16", "fd00::/8"]},
                {"name": "mr", "ae_titles": ["MR1"]},
                {"name": "us", "ae_titles": ["US1", "US2"], "max_associations": 1},
            ],
            destinations=[{"name": "pacs", "ae_title": "PACS"}],
        )
    )


def judge(calling="MR1", called="PACSGUARD", address="192.168.0.1", open_associations=None, free_bytes=100, **receive):
    request = Request(calling_ae=calling, called_ae=called, address=address)
    return admission(**receive).judge(request, open_associations=open_associations or {}, free_bytes=free_bytes)


@pytest.mark.parametrize(
    ("calling", "address", "source"),
    [("CT1", "10.1.2.3", "ct"), ("CT2", "fd00::7", "ct"), ("CT1", "::ffff:10.1.2.3", "ct"), ("MR1", "8.8.8.8", "mr")],
)
def test_known_caller_belongs_to_its_source(calling, address, source):
    assert judge(calling, address=address) == source


@pytest.mark.parametrize(
    ("request_", "reason", "codes"),
    [
        ({"calling": "XX"}, Reason.CALLING_AE_TITLE, (1, 1, 3)),
        ({"calling": "mr1"}, Reason.CALLING_AE_TITLE, (1, 1, 3)),
        ({"calling": "CT1", "address": "10.2.0.1"}, Reason.ADDRESS, (1, 1, 1)),
        ({"called": "OTHER"}, Reason.CALLED_AE_TITLE, (1, 1, 7)),
        ({"open_associations": {"ct": 2}}, Reason.TOO_MANY, (2, 3, 2)),
        ({"open_associations": {"ct": 1, "mr": 1}}, Reason.TOO_MANY, (2, 3, 2)),
        ({"calling": "US2", "open_associations": {"us": 1}}, Reason.TOO_MANY_OF_SOURCE, (2, 3, 2)),
        ({"free_bytes": 99}, Reason.DISK, (2, 3, 2)),
        # a stranger learns nothing of the node's state
        ({"calling": "XX", "free_bytes": 0, "open_associations": {"ct": 9}}, Reason.CALLING_AE_TITLE, (1, 1, 3)),
    ],
)
def test_others_are_told_why(request_, reason, codes):
    rejection = judge(**request_)
    assert rejection == Rejection(reason)
    assert rejection.codes == codes


@pytest.mark.parametrize(("calling", "source"), [("US1", "us"), ("MR1", "mr")])
def test_one_sources_limit_keeps_no_other_out(calling, source):
    assert judge(calling, open_associations={"ct": 1}) == source
    crowded = {"us": 1} if source == "mr" else {"mr": 1}
    assert judge(calling, open_associations=crowded) == source


def test_every_reason_has_codes_that_the_standard_knows():
    for reason in Reason:
        result, source, diagnostic = Rejection(reason).codes
        assert result in {1, 2}
        assert diagnostic in {1: {1, 2, 3, 7}, 2: {1, 2}, 3: {1, 2}}[source]


def test_any_called_ae_title_will_do_where_that_is_set():
    assert judge(called="OTHER", require_called_ae_title=False) == "mr"


def test_scope_of_a_link_local_address_is_ignored():
    assert is_within("fe80::1%eth0", ["fe80::/10"])


def test_later_requests_are_judged_by_changed_settings():
    rules = admission()
    request = Request(calling_ae="CT9", called_ae="PACSGUARD", address="10.1.0.1")
    assert rules.judge(request, open_associations={}, free_bytes=100) == Rejection(Reason.CALLING_AE_TITLE)
    rules.reconfigure(
        Settings(
            receive={"max_associations": 1, "min_free_bytes": 200},
            sources=[{"name": "new", "ae_titles": ["CT9"]}],
            destinations=[{"name": "pacs", "ae_title": "PACS"}],
        )
    )
    assert rules.judge(request, open_associations={}, free_bytes=200) == "new"
    assert rules.judge(request, open_associations={"new": 1}, free_bytes=200) == Rejection(Reason.TOO_MANY)
    assert rules.judge(request, open_associations={}, free_bytes=199) == Rejection(Reason.DISK)


SCANNER = Certificate("CN=ct1", frozenset({"sha256:ab", "dns:ct1"}), 0.0, 1.0)


@pytest.mark.parametrize(
    ("bound", "shown", "reason"),
    [
        ((), None, None),
        ((), SCANNER, None),
        (("dns:ct1",), SCANNER, None),
        (("dns:ct2", "dns:ct1"), SCANNER, None),
        (("dns:ct2",), SCANNER, Reason.CERTIFICATE_NOT_BOUND),
        (("dns:ct1",), None, Reason.CERTIFICATE_MISSING),
    ],
)
@pytest.mark.parametrize("who", ["CT", "PACS"])
def test_a_caller_is_known_by_its_certificate(who, bound, shown, reason):
    settings = Settings(
        receive={"min_free_bytes": 0, "tls": {}},
        tls={"cert_file": "a", "key_file": "b", "ca_file": "c"},
        sources=[{"name": "who", "ae_titles": ["CT"], "certificates": bound}],
        destinations=[{"name": "who", "ae_title": "PACS", "tls": {"certificates": bound}}],
    )
    request = Request(calling_ae=who, called_ae="PACSGUARD", address="10.0.0.1", certificate=shown)
    judged = Admission(settings).judge(request, open_associations={}, free_bytes=1)
    assert judged == ("who" if reason is None else Rejection(reason))
    assert reason is None or judged.codes == (1, 1, 1)
