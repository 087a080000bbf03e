"""Metrics, logging, schedule, health and the supervisor."""
