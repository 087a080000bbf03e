"""An association in, a durable instance out; the only room that answers a modality."""
