from __future__ import annotations

import pytest
from pydantic import ValidationError

from pacs_guard.config import EmailSettings
from pacs_guard.deliver.mail import message
from pacs_guard.queue.rows import Notification

PAYLOAD = {"event": "study_quarantined", "study": 7, "kinds": ["FM"], "reason": "painted in\r\nBcc: x@example.org"}
NOTIFICATION = Notification(3, "study_quarantined", PAYLOAD, 0, 1_790_000_000.0, study_uid="1.2.3")


def email(**changes) -> EmailSettings:
    settings = {"host": "mail", "sender": "guard@example.org", "recipients": ["a@example.org", "b@example.org"]}
    return EmailSettings(**settings | changes)


def test_the_message_says_what_happened_without_identifying_anybody():
    found = message(email(), NOTIFICATION, "PACSGUARD")
    assert found["Subject"] == "PACSGUARD: study quarantined"
    assert found["To"] == "a@example.org, b@example.org"
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["Date"] == "Mon, 21 Sep 2026 14:13:20 +0000"
    assert "quarantine show 7" in found.get_content()
    assert "1.2.3" not in found.as_string()


def test_a_site_may_let_the_study_uid_leave():
    found = message(email(include_study_uid=True, body="$study_uid"), NOTIFICATION, "PACSGUARD")
    assert found.get_content() == "1.2.3\n"


def test_line_ends_in_a_value_make_no_headers():
    found = message(email(subject="$reason"), NOTIFICATION, "PACSGUARD")
    assert found["Subject"] == "painted in Bcc: x@example.org"
    assert found["Bcc"] is None


def test_attempts_at_one_notification_are_one_message():
    assert (
        message(email(), NOTIFICATION, "PACSGUARD")["Message-ID"]
        == message(email(), NOTIFICATION, "PACSGUARD")["Message-ID"]
        == "<3.1790000000.PACSGUARD@example.org>"
    )


@pytest.mark.parametrize(
    ("changes", "clue"),
    [
        ({"username": "u"}, "username and password go together"),
        ({"username": "u", "password": "p", "password_file": "/p"}, "expected one of them"),
        ({"username": "u", "password": "p", "security": "none"}, 'expected "starttls" or "tls"'),
        ({"subject": "$patient"}, "expected one of"),
        ({"recipients": []}, "at least 1"),
        ({"recipients": ["a@example.org\nBcc: b@example.org"]}, "pattern"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, clue):
    with pytest.raises(ValidationError, match=clue):
        email(**changes)


def test_the_password_is_read_from_its_file_and_never_shown(tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    settings = email(username="u", password_file=tmp_path / "password")
    assert settings.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)
