"""The audit trail: events from the queue as DICOM audit messages (PS3.15 A.5), sent by syslog (A.6, A.7)."""
