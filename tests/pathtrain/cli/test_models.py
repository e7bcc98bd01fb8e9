"""`pathtrain models`, and the options that commands take models with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from helpers.toys import noise, write_dataset
from typer.testing import CliRunner

from pathtrain.cli import app
from pathtrain.models.public import registry


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_has_every_encoder_and_no_figure_is_cut(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = CliRunner().invoke(app, ["models"]).output
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    for name, entry in registry.entries().items():
        (line,) = (each for each in lines if each.split()[:1] == [name])
        assert f"{entry.width:,}" in line
        assert f"{entry.size} " in line
        assert f"{entry.parameters:,.0f}" in line
        assert line.rstrip().endswith("yes") == entry.gated


def test_json_has_all_that_is_known() -> None:
    found = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert list(found) == list(registry.entries())
    assert found["virchow2"]["width"] == 2560
    one = json.loads(CliRunner().invoke(app, ["models", "UNI2-h", "--json"]).stdout)
    assert (one["name"], one["hub"], one["gated"]) == ("uni2-h", "MahmoodLab/UNI2-h", True)
    assert one["arguments"]["reg_tokens"] == 8


def test_one_has_its_facts_and_its_commands() -> None:
    shown = CliRunner().invoke(app, ["models", "prov-gigapath"]).output
    for words in (
        "pathtrain embed prov-gigapath slides --out features/prov-gigapath --tile 256 --resize 256 "
        "--size 224\n",
        "pathprep shard slides --tile 256 --mpp 0.5\n",
        "export HF_TOKEN=...\n",
        "pathtrain embed prov-gigapath dataset --out features/prov-gigapath --resize 256 --size 224\n",
        "Without internet: --weights FILE, from `hf download prov-gigapath/prov-gigapath`.",
        "commercial use not allowed",
        "mlp_ratio 5.33334",
    ):
        assert words in shown.replace(" \n", "\n") or words.strip() in " ".join(shown.split())
    assert "--weights FILE" in CliRunner().invoke(app, ["models", "ctranspath"]).output
    assert "--stain bake" in CliRunner().invoke(app, ["models", "exaonepath-1.0"]).output
    assert "unsure" in CliRunner().invoke(app, ["models", "exaonepath-2.0"]).output


@pytest.mark.parametrize(
    ("name", "hint"), [("uni3", "is it uni or uni2-h?"), ("zzzz", "`pathtrain models` lists")]
)
def test_a_name_that_is_none(name: str, hint: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pathtrain", "models", name], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert f"NAME {name}: no public encoder of that name is known" in found.stderr
    assert hint in found.stderr


def test_the_table_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['pathtrain', 'models']\n"
        "from pathtrain.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code in (0, None)\n"
        "assert not {'torch', 'timm', 'numpy', 'huggingface_hub'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_licence_and_what_is_left_out_are_said_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path / "dataset", {"a": noise(3)})
    entry = registry.entries()["kaiko-vits16"]
    small = {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 2}
    monkeypatch.setitem(
        registry.entries(), "kaiko-vits16", entry.model_copy(update={"arguments": small, "size": 32})
    )
    network = timm.create_model(entry.timm, num_classes=0, **small)
    torch.save({**network.state_dict(), "head.weight": torch.zeros(1)}, tmp_path / "w.pth")
    given = [
        "embed",
        "kaiko-vits16",
        str(dataset),
        "--out",
        str(tmp_path / "out"),
        "--weights",
        str(tmp_path / "w.pth"),
    ]
    done = CliRunner().invoke(app, [*given, "--readout", "cls+mean"])
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("kaiko-vits16: licence kaiko non-commercial, no commercial use") == 1
    assert done.stderr.count("left out, no feature passes them: head.weight") == 1
    assert "48 numbers each" in done.stdout
