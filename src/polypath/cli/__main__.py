"""`python -m polypath.cli`."""

from polypath.cli import main

main()
