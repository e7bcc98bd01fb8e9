"""`python -m pathprep`: the command `pathprep`."""

from pathprep.cli import main

main()
