"""Implements the ForeignGenerator port: other people's image APIs."""
