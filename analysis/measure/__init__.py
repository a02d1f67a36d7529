"""Runs networks and returns numbers."""
