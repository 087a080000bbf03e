"""Runs migrations on the connection that the application hands over."""

from alembic import context

from pacs_guard.queue.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
