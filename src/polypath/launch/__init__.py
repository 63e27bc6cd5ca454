"""Brings heads and workers up, finds them, and takes them down."""
