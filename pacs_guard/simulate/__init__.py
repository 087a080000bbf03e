"""Synthetic chest CT, clean and tampered, for demonstrations and tests; every image says that it is simulated."""
