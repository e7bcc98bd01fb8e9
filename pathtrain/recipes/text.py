"""Recipes as text: YAML of plain values, without what YAML can do beyond that.

A key that is given twice is an error, not the last one; dates are texts; aliases may not add up to more than
a recipe can be, so that ten lines do not become a billion values.
"""

from typing import Any

import yaml

LARGEST_TEXT = 1 << 20  # characters
LARGEST_NUMBER = 2**63
MOST_VALUES, DEEPEST = 100_000, 50


class _Plain(yaml.SafeLoader):
    """safe_load's, without dates, and with keys once each."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen and name is not None:
                place = key.start_mark
                raise ValueError(f"{name} is given twice, in line {place.line + 1} again; keep one")
            seen.add(name)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Plain.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def decoded(data: bytes) -> str:
    """A file's text.

    Raises:
        ValueError: it is not UTF-8; it says what to do.
    """
    if len(data) > LARGEST_TEXT:
        raise ValueError(f"{len(data):,} bytes, which no recipe has; is it another file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"not UTF-8 (line {line}); save it as UTF-8") from None


def parsed(text: str) -> Any:
    """The values that a text holds.

    Raises:
        ValueError: it is no YAML, or beyond what a recipe can be; in one line.
    """
    try:
        loader = _Plain(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _count(node, {}, 0) > MOST_VALUES:
                raise ValueError(f"its aliases make more than {MOST_VALUES:,} values of it; write them out")
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())[:300]}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than the {DEEPEST} levels of any recipe") from None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not YAML: {error}") from None
    _check_numbers(values)
    return values


def _count(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """The values that a node stands for, aliases written out."""
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_count(part, known, depth + 1) for part in parts)
    return known[id(node)]


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            _check_numbers(part)
    elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError(f"a number of {value.bit_length():,} bits, which nothing in a recipe has")
