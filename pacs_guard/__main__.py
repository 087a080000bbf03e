"""``python -m pacs_guard``."""

from pacs_guard.cli import main

main()
