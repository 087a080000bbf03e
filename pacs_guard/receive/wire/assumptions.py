"""What the fast transport takes for granted about pynetdicom's inside, in one place.

The library promises none of this. A test compares the text of each function below with the one that was read when the
transport was written; where a release changes one of them, it fails and names it. Whoever reads the change and finds
that the reason given here still holds, writes the new fingerprint down.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Assumption:
    """One function of the library and what is relied on.

    Attributes
    ----------
    function : str
        ``module:qualified.name``.
    relied_on : str
        One sentence.
    fingerprint : str
        First 16 digits of the SHA-256 of its source.
    """

    function: str
    relied_on: str
    fingerprint: str

    def found(self) -> str:
        """Return the fingerprint of the library that is installed.

        Raises
        ------
        AttributeError
            If there is no such function any more.
        """
        module, _, name = self.function.partition(":")
        target: Any = import_module(module)
        for part in name.split("."):
            target = inspect.getattr_static(target, part) if inspect.isclass(target) else getattr(target, part)
        source = inspect.getsource(target)
        return hashlib.sha256(source.encode()).hexdigest()[:16]


ASSUMPTIONS = (
    Assumption(
        "pynetdicom.transport:RequestHandler._create_association",
        "It makes the association and its socket wrapper, sets both up and starts neither; `adopt` takes over then.",
        "05c8d12b79863cdb",
    ),
    Assumption(
        "pynetdicom.transport:AssociationSocket.__init__",
        "An accepted connection's opening (Evt5) is put into the provider's event queue, which `adopt` keeps.",
        "1f0325fdef2cc353",
    ),
    Assumption(
        "pynetdicom.transport:AssociationSocket.close",
        "It may be called twice, sets `socket` to None, and puts Evt17 into the event queue once.",
        "c726c8db53813d55",
    ),
    Assumption(
        "pynetdicom.transport:AssociationSocket.send",
        "It works on a blocking socket and turns any error into Evt17.",
        "1ea8158c0b51faca",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider.__init__",
        "The queues, timers and the state machine are attributes made here; the thread's target is `run_reactor`.",
        "c82dafa9438ddf70",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider.run_reactor",
        "Replaced: ARTIM first, then something to send or something received, then one event for the state machine.",
        "e3a10eb3a0931e48",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider._is_transport_event",
        "Replaced: in Sta13 the connection is closed as soon as nothing more is to be read.",
        "8725ed03bb8fbdef",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider._read_pdu_data",
        "Replaced: which events a received PDU, a broken PDU and the end of the connection give. Where it is not, it "
        "asks its socket for six bytes and then for as many as these say, and an unknown type is Evt19.",
        "19f2d4e38c13c835",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider._decode_pdu",
        "It takes a whole PDU and returns it decoded, with its event.",
        "fc71dd1bf853e1ce",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider._process_recv_primitive",
        "It puts the event of the first queued primitive into the event queue and leaves the primitive to the action.",
        "4c0ebbb3e646e35e",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider.stop_dul",
        "Replaced: it ends the thread in Sta1 only, and says whether it did.",
        "28a7e0be126e7b30",
    ),
    Assumption(
        "pynetdicom.dul:DULServiceProvider.receive_pdu",
        "A None in the queue is what a time-out gives.",
        "fa67339834ca998c",
    ),
    Assumption(
        "pynetdicom.fsm:StateMachine.do_action",
        "States and events have the names of PS3.8 9.2; an action takes what it needs from the provider's queues.",
        "9a883f44c7f31641",
    ),
    Assumption(
        "pynetdicom.fsm:AA_8",
        "An invalid PDU (Evt19), and P-DATA out of place (Evt10), sends an A-ABORT and needs no PDU in a queue.",
        "06c83317f08831fd",
    ),
    Assumption(
        "pynetdicom.association:Association.__init__",
        "Everything is an attribute of the instance, so that another class can be given to it before it is started.",
        "eb07516b8009ad8f",
    ),
    Assumption(
        "pynetdicom.association:Association.run_reactor",
        "It starts the provider, waits for the request, negotiates, and calls `_run_reactor` once established.",
        "ed8bbbe3b3d6ddae",
    ),
    Assumption(
        "pynetdicom.association:Association._run_reactor",
        "Replaced: messages, release, abort, end of the provider and idle time are looked at in this order.",
        "f28838c5559e462a",
    ),
    Assumption(
        "pynetdicom.association:Association.kill",
        "It waits until the provider's thread has ended.",
        "8f9713666a7f4cff",
    ),
    Assumption(
        "pynetdicom.dimse:DIMSEServiceProvider.receive_primitive",
        "A message takes any number of primitives; `message` is None between messages; whole ones go to `msg_queue`.",
        "5f99c86b14a15cef",
    ),
    Assumption(
        "pynetdicom.dimse:DIMSEServiceProvider.get_msg",
        "It takes one message from `msg_queue`, a queue.Queue, whose unfinished tasks nobody else counts.",
        "890e3e04283f5aeb",
    ),
    Assumption(
        "pynetdicom.acse:ACSE._negotiate_as_acceptor",
        "`_accepted_cx` is complete before the A-ASSOCIATE-AC is sent, and so before data can come.",
        "fffd360957c42a8e",
    ),
)
