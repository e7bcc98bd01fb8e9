"""A Slurm array: each element makes its part, and the script does what the command says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.runs import contents

from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.slides import find

PARAMS = ShardParams(tile=64, region=16 * 64)
OPTIONS = ("--tile", 64)


# Runs the elements of an array as Slurm would. Element 1 is preempted once: SIGTERM, then queued again.
SBATCH = """#!/bin/bash
[ "$1" = --parsable ] || exit 9
script=$2 folder=$(dirname "$2")
elements=$(sed -n 's/^#SBATCH --array=1-//p' "$script")
element() {
    exec env SLURM_ARRAY_TASK_ID=$1 SLURM_CPUS_PER_TASK=1 bash "$script" >>"$folder/log-$1" 2>&1
}
element 1 & first=$!
element 2 & second=$!
until ls "$folder"/../shards/.tmp-* >"$folder/seen" 2>&1; do sleep 0.01; done
kill -TERM $first
wait $first; echo "1 $?" >>"$folder/codes"
wait $second; echo "2 $?" >>"$folder/codes"
(element 1); echo "1 $?" >>"$folder/codes"
for k in $(seq 3 "$elements"); do (element "$k"); echo "$k $?" >>"$folder/codes"; done
echo "4711;here"
"""


def pathprep(*arguments: object, path: Path | None = None, cwd: Path | None = None) -> Any:
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-m", "pathprep", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=cwd,
    )


@pytest.mark.slow
def test_slurm_array(folder: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    slurm = tmp_path / "bin"
    slurm.mkdir()
    (slurm / "sbatch").write_text(SBATCH)
    (slurm / "sbatch").chmod(0o755)
    home = tmp_path / "it's 100% mine"  # the script must quote
    home.mkdir()
    (home / "slides").symlink_to(folder)
    command = ["shard", "slides", *OPTIONS, "--launcher", "slurm", "--array", 4]
    done = pathprep(*command, "--sbatch-args", "--partition=cpu", path=slurm, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "6 slides, 0 done, 6 to do" in done.stdout
    assert "Submitted as job 4711, 4 elements" in done.stdout
    root = home / "dataset"
    codes = [tuple(line.split()) for line in (root / "slurm" / "codes").read_text().splitlines()]
    assert codes[0] in {("1", "143"), ("1", "0")}  # 0: it had ended
    assert set(codes[1:]) == {(str(k), "0") for k in (1, 2, 3, 4)}
    found = contents(root)
    assert {name: value for name, value in found.items() if not name.startswith("slides/")} == {
        name: value for name, value in undisturbed.items() if not name.startswith("slides/")
    }
    script = (root / "slurm" / "pathprep-dataset.sh").read_text()
    assert script.splitlines()[:2] == ["#!/bin/bash", "#SBATCH --job-name=pathprep-dataset"]
    assert "#SBATCH --cpus-per-task=1\n#SBATCH --partition=cpu\n" in script
    again = pathprep(*command, "--json", path=slurm, cwd=home)
    facts = json.loads(again.stdout)
    assert (facts["slides"], facts["already_done"], facts["job"]) == (6, 6, None)


def test_without_sbatch_the_script_is_there_and_said_so(folder: Path, tmp_path: Path) -> None:
    command = ["shard", folder, "--out", tmp_path / "d", *OPTIONS, "--launcher", "slurm", "--array", 2]
    done = pathprep(*command, "--workers", 3, "--resize", "--rebuild")
    assert done.returncode == 1
    script = tmp_path / "d" / "slurm" / "pathprep-d.sh"
    assert f"sbatch is not on this machine's PATH: the script is {script}; submit it" in done.stderr
    text = script.read_text()
    assert "#SBATCH --array=1-2\n" in text
    config = script.with_suffix(".yaml")
    assert f"pathprep shard --config {config} --launcher local" in text
    values = yaml.safe_load(config.read_text())
    assert (values["out"], values["slides"]) == (f"{tmp_path}/d", [str(folder)])
    assert (values["tile"], values["native"]) == (64, False)
    assert not {"rebuild", "workers", "launcher", "array"} & values.keys()
    assert '--part "${SLURM_ARRAY_TASK_ID}/2" --workers "${SLURM_CPUS_PER_TASK:-3}"\n' in text
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    done = pathprep(*command, "--resize", "--no-submit")
    assert done.returncode == 0
    assert f"Not submitted; submit it with: sbatch {script}" in done.stdout
    slurm = tmp_path / "bin"
    slurm.mkdir()
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    (slurm / "sbatch").chmod(0o755)
    done = pathprep(*command, "--resize", path=slurm)
    assert done.returncode == 1
    assert "sbatch refused (sbatch: error: invalid partition); the script is" in done.stderr


@pytest.mark.slow
def test_an_array_rebuilds_with_other_parameters_only(folder: Path, tmp_path: Path) -> None:
    run.shard(find.find([folder / "s0.tif"]), tmp_path, PARAMS)
    command = [
        "shard",
        folder / "s0.tif",
        "--out",
        tmp_path,
        "--launcher",
        "slurm",
        "--array",
        2,
        "--no-submit",
    ]
    done = pathprep(*command, *OPTIONS, "--rebuild")
    assert done.returncode == 2
    assert "the dataset has these parameters already" in done.stderr
    done = pathprep(*command, *OPTIONS, "--quality", 70, "--rebuild")
    assert done.returncode == 0, done.stderr
    assert "1 slide, 0 done, 1 to do" in done.stdout
    values = yaml.safe_load(next((tmp_path / "slurm").glob("*.yaml")).read_text())
    assert (values["quality"], "rebuild" in values) == (70, False)
