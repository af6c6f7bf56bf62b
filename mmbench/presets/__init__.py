"""Shipped settings files for --config NAME."""
