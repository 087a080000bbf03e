"""Bytes we own on disk: write, verify, read, remove, reconcile with the queue at start-up."""
