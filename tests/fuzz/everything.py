"""All parsers under test, by name, and how many inputs each has in the full run: 10,000 and more in all."""

from fuzz import containers, pictures, tables

PARSERS = {**tables.PARSERS, **pictures.PARSERS, **containers.PARSERS}
# Those of our own files open a whole folder for an input, a command line loads a command: they take
# longest; scores in HDF5 are read by a process of their own
SLOW = {*containers.PARSERS, "command lines", "scores, HDF5"}
EACH = {name: 100 if name in SLOW else 460 for name in PARSERS}
