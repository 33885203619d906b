"""Packshot keeps a fine-tuned text-to-image model per product category and serves them all by name."""

__version__ = "0.1.0"
