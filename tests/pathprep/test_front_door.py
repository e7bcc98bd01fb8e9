"""`import pathprep`: what it gives, and that it loads nothing before it is needed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pathprep

HEAVY = ("torch", "numpy", "pyarrow", "scipy", "numba", "nvidia", "cucim", "cupy", "webdataset", "typer")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a new process has loaded after this code."""
    listed = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_loads_nothing_heavy() -> None:
    assert not modules_after("import pathprep; dir(pathprep)") & set(HEAVY)


@pytest.mark.parametrize("name", pathprep.__all__)
def test_every_name_is_what_type_checkers_take_it_for(name: str) -> None:
    tree = ast.parse(Path(pathprep.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = getattr(pathprep, name)
    assert found.__module__ == imports[name]
    assert found.__name__ == name
    assert name in dir(pathprep)


def test_a_room_does_not_take_a_functions_place() -> None:
    """Importing a submodule sets it as an attribute of the package."""
    import pathprep.reports.page

    assert callable(pathprep.report)


def test_whole_numbers_give_the_build_id_of_the_command() -> None:
    from pathprep.params.tile_set import TileParams

    whole, given = (
        pathprep.ShardParams.of(mpp=(each(2), each(1)), mode="resize", min_focus=each(50), min_tissue=each(1))
        for each in (int, float)
    )
    assert json.dumps(whole.as_dict()) == json.dumps(given.as_dict())
    assert json.dumps(TileParams.of(mpp=1).as_dict()) == json.dumps(TileParams.of(mpp=1.0).as_dict())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'shred'"):
        _ = pathprep.shred  # type: ignore[attr-defined]
