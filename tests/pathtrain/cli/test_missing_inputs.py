"""What is given and is not there is wrong usage: a line that names it, and exit code 2, of every command."""

import sys
from pathlib import Path

import pytest
from helpers.toys import noise, write_dataset

import pathprep.cli
import pathtrain.cli

GONE = "gone"
COMMANDS = (
    "pathprep shard GONE.svs --out out",
    "pathprep shard GONE --out out",
    "pathprep shard a.svs --masks GONE --out out",
    "pathprep shard DATASET --target GONE.json --out out",
    "pathprep import-tiles GONE --out out",
    "pathprep import-tiles GONE.h5 --out out",
    "pathprep import-tiles DATASET --labels GONE.csv --out out",
    "pathprep inspect GONE.svs",
    "pathprep verify GONE",
    "pathprep repair GONE",
    "pathprep report GONE",
    "pathprep mix GONE --out out",
    "pathprep audit GONE",
    "pathprep target GONE.svs --out out.json",
    "pathtrain pretrain GONE --recipe smoke --out out",
    "pathtrain pretrain DATASET --recipe GONE.yaml --out out",
    "pathtrain lr-range GONE --recipe smoke",
    "pathtrain embed GONE DATASET --out out",
    "pathtrain export GONE --out out",
    "pathtrain report GONE",
    "pathtrain compare GONE DATASET",
    "pathtrain verify GONE",
    "pathtrain evaluate knn GONE --train DATASET",
    "pathtrain evaluate collapse GONE DATASET",
    "pathtrain evaluate robustness GONE DATASET --by scanner",
    "pathtrain evaluate linear GONE --train DATASET",
    "pathtrain evaluate table GONE --tasks GONE.yaml",
    "pathtrain evaluate slides GONE --labels GONE.csv",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    write_dataset(folder / "DATASET", {"a": noise(2)})
    (folder / "a.svs").write_bytes(b"II*\0")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_there_exits_2(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", command.replace("GONE", GONE).split())
    monkeypatch.setenv("COLUMNS", "200")
    main = pathprep.cli.main if command.startswith("pathprep") else pathtrain.cli.main
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert GONE in said
    assert "Errno" not in said
    assert not (here / "out").exists()
