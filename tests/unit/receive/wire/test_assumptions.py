"""A pynetdicom whose inside differs from what the fast transport was written for is noticed, with a reason to read."""

from __future__ import annotations

from dataclasses import replace

import pynetdicom
import pytest

from pacs_guard.receive.wire.assumptions import ASSUMPTIONS


@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=lambda assumption: assumption.function)
def test_library_is_the_one_that_was_read(assumption):
    found = assumption.found()
    assert found == assumption.fingerprint, (
        f"pynetdicom {pynetdicom.__version__} changed {assumption.function}, on which the fast transport relies: "
        f"{assumption.relied_on} Read the change; if this still holds, set its fingerprint to {found} in "
        "pacs_guard/receive/wire/assumptions.py; until then receive.transport = 'stock' does without."
    )


def test_a_function_that_is_gone_is_noticed():
    with pytest.raises(AttributeError):
        replace(ASSUMPTIONS[0], function="pynetdicom.transport:RequestHandler.no_such_function").found()
