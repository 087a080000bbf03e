"""To the PACS, into quarantine, out of it; notifications."""
