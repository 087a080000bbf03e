"""Synthetic chest CT series, tampering with them, and writing them as DICOM that says it is simulated."""

from pacs_guard.simulate.nodule import Nodule
from pacs_guard.simulate.phantom import make_phantom
from pacs_guard.simulate.sites import suggest_site
from pacs_guard.simulate.tamper import inject_nodule, remove_nodule
from pacs_guard.simulate.writer import WRITABLE, write_series

__all__ = ["WRITABLE", "Nodule", "inject_nodule", "make_phantom", "remove_nodule", "suggest_site", "write_series"]
