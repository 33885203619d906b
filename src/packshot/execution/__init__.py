"""Implements the Executor port."""
