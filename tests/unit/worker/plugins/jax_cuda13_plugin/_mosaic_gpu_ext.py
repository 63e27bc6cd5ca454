"""Stands for the extension beside which the library lies."""
