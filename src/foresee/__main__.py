"""``python -m foresee``."""

from foresee.cli import main

main()
