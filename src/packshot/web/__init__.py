"""The HTTP API: requests in, services out. Importing this package loads no web framework; ``app`` does."""
