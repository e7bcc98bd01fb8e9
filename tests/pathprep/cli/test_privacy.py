"""`pathprep pseudonyms` and `pathprep audit` as a user meets them: exit codes, what is printed, JSON."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
from helpers import hospital
from helpers.slides import tissue, write_tiff

from pathprep.cli import main
from pathprep.pseudonyms import key as keys
from pathprep.pseudonyms import table
from pathprep.pseudonyms.table import Row


def pathprep(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", ["pathprep", *map(str, arguments)])
        main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture
def key(tmp_path: Path) -> keys.Key:
    made = keys.take(tmp_path / "study.key")
    table.add(made, [Row(made.name("S19-01234"), "S19-01234", "/archive/S19-01234.svs")])
    return made


def test_names_are_looked_up_both_ways(key: keys.Key) -> None:
    pseudonym = key.name("S19-01234")
    for asked in (pseudonym, f"{pseudonym}_mpp0-5", f"{pseudonym}-0123abcd", "S19-01234", "S19-01234.svs"):
        code, out, _ = pathprep("pseudonyms", key.path, asked)
        assert (code, out) == (0, f"{pseudonym}  S19-01234  /archive/S19-01234.svs\n")
    code, out, err = pathprep("pseudonyms", key.path, "S19-01234", "typo", "--json")
    assert (code, len(json.loads(out))) == (1, 1)
    assert "error: typo: not in" in err


def test_labels_are_rewritten(key: keys.Key, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("slide,her2,seen\nS19-01234,1,2019-03-02\n")
    given = ["--labels", tmp_path / "labels.csv", "--out", tmp_path / "new.csv"]
    code, out, _ = pathprep("pseudonyms", key.path, *given)
    assert code == 0
    assert "1 row; pseudonyms in slide; kept: her2" in out
    assert "left out  seen (a date, such as '2019-03-02'); --keep seen keeps it" in out
    assert (tmp_path / "new.csv").read_text() == f"slide,her2\n{key.name('S19-01234')},1\n"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([], "give names to look up, or --labels and --out"),
        (["--labels", "x.csv"], "--labels and --out go together"),
        (["--labels", "/absent.csv", "--out", "x.csv"], "/absent.csv: no such file"),
    ],
)
def test_wrong_usage_is_one_line(key: keys.Key, given: list[str], error: str) -> None:
    code, _, err = pathprep("pseudonyms", key.path, *given)
    assert code == 2
    assert error in err
    assert err.count("\n") == 1


def test_audit_names_file_sign_and_cure(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"dataset": "/home/meier/dataset"}))
    code, out, _ = pathprep("audit", tmp_path / "run")
    assert code == 1
    assert out.startswith(
        "run.json, dataset: a path of a machine, such as '/home/meier/dataset'; give away what"
    )
    assert "(run), 1 file: 1 found" in out
    (tmp_path / "run" / "run.json").write_text("{}")
    code, out, _ = pathprep("audit", tmp_path / "run", "--json")
    assert code == 0
    (facts,) = json.loads(out)
    assert (facts["kind"], facts["files"], facts["found"]) == ("run", 1, [])


def test_a_mix_of_pseudonymised_tiles_keeps_its_options_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_tiff(tmp_path / "slides" / "S19-01234.tif", tissue(200, 260))
    given = ["--out", tmp_path / "d", "--tile", 64, "--no-forecast", "--pseudonymise", tmp_path / "study.key"]
    assert pathprep("shard", tmp_path / "slides", *given)[0] == 0
    assert pathprep("mix", tmp_path / "d", "--out", tmp_path / "mixed", "--seed", 3)[0] == 0
    assert "seed: 3" in (tmp_path / "mixed" / "mix.yaml").read_text()
    assert hospital.leaks(tmp_path / "mixed", (str(tmp_path), "S19-01234")) == []
    code, out, _ = pathprep("audit", tmp_path / "d", tmp_path / "mixed")
    assert (code, out.count("nothing that could tell")) == (0, 2)
