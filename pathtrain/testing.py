"""A run small enough for tests, for those who build on pathtrain; pathprep.testing makes the dataset for it.

dataset = pathprep.testing.small_dataset(tmp_path)
run = small_run(dataset, tmp_path / "run")
"""

from pathlib import Path

from pathtrain.training.pretrain import pretrain

# A network of one block, on views of 32 and 16 px: a step takes some hundredths of a second on a core
SMALL = (
    "model.kwargs={img_size: 32, patch_size: 16, depth: 1, embed_dim: 24, num_heads: 2}",
    "views.globals.size=32",
    "views.locals.size=16",
    "batch=8",
    "probes=[]",
)


def small_run(dataset: str | Path, run: Path, steps: int = 2, *settings: str) -> Path:
    """Train a tiny network for some steps, on the CPU, as `pathtrain pretrain --recipe smoke` does.

    Args:
        dataset: the folder or URL, of a dataset or of mixed shards.
        run: the run's folder, made if absent.
        steps: of the whole run, at least 1.
        settings: more of the recipe, as in ``--set``; they come after SMALL.

    Returns:
        The run's folder: what ``evaluate``, ``embed`` and ``export`` take.
    """
    pretrain(dataset, "smoke", run, settings=[*SMALL, f"steps={steps}", *settings])
    return run
