"""Recipes of any bytes: a recipe, or one line that says what is wrong."""

from pathlib import Path

import pytest

from pathtrain.errors import RecipeError
from pathtrain.recipes.load import dump, load
from pathtrain.recipes.text import parsed

LAUGHS = b"a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + b"".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n".encode() for n in range(9)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method: dino # Münster".encode("latin-1"), r"not UTF-8 \(line 1\); save it as UTF-8"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nested deeper than the 50 levels"),
        (LAUGHS, "its aliases make more than 100,000 values"),
        (b"a: &a [*a]", "nested deeper|aliases"),
        (b"method: dino\nsteps: 5\nsteps: 6", "steps is given twice, in line 3 again; keep one"),
        (b"method: dino\noptim: {lr: 1, lr: 2}", "lr is given twice"),
        (b"steps: " + b"9" * 5000, "Exceeds the limit|bits"),
        (b"steps: 1" + b"0" * 400, "a number of 1,329 bits"),
        (b"steps: 0x" + b"f" * 4000, "bits, which nothing in a recipe has"),
        (b"steps: 2026-13-45\nmethod: dino", "steps: Input should be a valid integer"),
        (b"method: 2026-01-01", "method: there is none called 2026-01-01"),
        (b"a: !!python/object/apply:os.system [ls]", "not YAML: could not determine a constructor"),
        (b"? [1, 2]\n: 3", "not YAML"),
        (b"\x00\x01", "not YAML"),
        (b"x" * (2 << 20), "bytes, which no recipe has; is it another file"),
        (b"", "expected keys and values, found NoneType"),
    ],
)
def test_texts_that_are_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as raised:
        load(path)
    assert all(
        line.startswith("recipe recipe.yaml: ") or str(path) in line
        for line in str(raised.value).splitlines()
    )


@pytest.mark.parametrize("value", ["[" * 3000, "1" * 5000, "{a: 1, a: 2}", "&a [*a]", "\x00"])
def test_overrides_of_any_text(value: str) -> None:
    with pytest.raises(RecipeError, match="`settings` steps="):
        load("smoke", [f"steps={value}"])


def test_aliases_that_a_recipe_may_have() -> None:
    assert parsed("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + dump(load("smoke")).encode())
    assert load(path) == load("smoke")
