"""Implements the Judge port with image and text encoders."""
