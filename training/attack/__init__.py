"""Altered copies of series: what a detector is trained and tried on, and a self-test of a deployment."""

from training.attack.copies import shams, simulated
from training.attack.donors import Donor
from training.attack.generator import Generator
from training.attack.series import Altered, alter, simulate_series
from training.attack.table import ATTACKS, SHAM, Attack, find_attack

__all__ = [
    "ATTACKS",
    "SHAM",
    "Altered",
    "Attack",
    "Donor",
    "Generator",
    "alter",
    "find_attack",
    "shams",
    "simulate_series",
    "simulated",
]
