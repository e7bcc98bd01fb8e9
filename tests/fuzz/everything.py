"""All parsers under test, by name."""

from fuzz import containers, pictures, tables

PARSERS = {**tables.PARSERS, **pictures.PARSERS, **containers.PARSERS}
EACH = 300  # inputs of a parser in the full run: 10,000 and more in all
