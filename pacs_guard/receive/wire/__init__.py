"""The fast transport: pynetdicom's association with its network thread blocking in poll and its data streamed."""
