"""DICOM TLS: its profile, certificates and their names, and what a handshake failed of; used in both directions."""
