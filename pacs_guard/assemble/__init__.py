"""Instances become a volume, or a refusal with its reason."""
