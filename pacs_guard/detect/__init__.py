"""Detectors, their bundles, explanations, and the worker process that holds the accelerator."""
