"""PACS Guard."""
