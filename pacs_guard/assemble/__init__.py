"""Instances to a volume in Hounsfield units and patient geometry, or to a refusal with its reason."""

from pacs_guard.assemble.files import find_instances
from pacs_guard.assemble.reading import ReadInstance, read_instance
from pacs_guard.assemble.series import assemble_series, assemble_study

__all__ = ["ReadInstance", "assemble_series", "assemble_study", "find_instances", "read_instance"]
