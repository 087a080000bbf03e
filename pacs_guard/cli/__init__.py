"""The command line: one file per command group, and the only place that wires rooms together."""

from __future__ import annotations

import os
import sys

from pacs_guard.errors import ConfigurationError, PacsGuardError, SupervisionError

CONFIGURATION_EXIT = 78
"""EX_CONFIG: nothing but a changed setting will help."""


def main() -> None:
    """Run the command line; an error that was foreseen becomes one clear message."""
    from pacs_guard.cli.app import app

    os.umask(0o077)  # whatever this writes may tell of patients
    try:
        app()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"pacs-guard: {problem}", file=sys.stderr)  # noqa: T201  # what a command line is for
        sys.exit(CONFIGURATION_EXIT)
    except SupervisionError as error:
        print(f"pacs-guard: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(CONFIGURATION_EXIT)
    except PacsGuardError as error:
        print(f"pacs-guard: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except BrokenPipeError:
        # the reader of our output had enough
        sys.stderr.close()
        sys.exit(0)
