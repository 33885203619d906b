"""Implements Records (SQLAlchemy) and Blobs (obstore)."""
