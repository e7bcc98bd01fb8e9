"""A run as one HTML page that needs nothing else: settings, curves, views, evaluations.

What is missing says which command makes it. The page is made from the run's files alone, and from the
dataset, if it is still there, for the views.
"""

import json
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from markupsafe import Markup

from pathprep.errors import DatasetError, PathprepError, UsageError, why
from pathprep.page import chart
from pathprep.page.environment import UNUSUAL, data_uri, render, write
from pathprep.storage.place import local_folder
from pathprep.words import command
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.online.dropped import FOLDER, Record
from pathtrain.data.opening import opened
from pathtrain.errors import NoModelError
from pathtrain.evaluate.baselines import said
from pathtrain.evaluate.papers.paper import PAPERS
from pathtrain.images import decode, resize
from pathtrain.params.tasks import told
from pathtrain.recipes.load import dump
from pathtrain.recipes.names_only import short_all, without_paths
from pathtrain.recipes.recipe import Recipe, StainConfig
from pathtrain.reports import curves
from pathtrain.reports import results as evaluations
from pathtrain.runs import checkpoint, milestones
from pathtrain.runs.described import STEP_KEY, info_of, joined, recipe_of
from pathtrain.runs.identity import TRAINING, VERSION_KEY, held_out, tiles_in_words
from pathtrain.stain.target import of_run
from pathtrain.training import row_keys
from pathtrain.training.health import Health, Spell

# What measures what is not there yet
COMMANDS = {
    "linear": "pathtrain evaluate linear {run} --train TILES --test TILES",
    "table": "pathtrain evaluate table {run} --paper midnight --tasks STUDY.yaml",
    "knn": "pathtrain evaluate knn {run} --train DATASET --labels LABELS.csv",
    "collapse": "pathtrain evaluate collapse {run} {dataset}",
    "collapse panels": "pathtrain evaluate collapse --plain MODEL DATASET --normalised MODEL DATASET",
}
TABLE = "table {}".format  # the task of a paper's table
TILES_SHOWN = 4
WHOLE_TILE = 224  # pixels of the picture of a whole tile


def report(run: str | Path, out: str | Path | None = None, results: Sequence[str | Path] = ()) -> Path:
    """Write the page.

    Args:
        run: a run folder; unfinished ones too.
        out: the page; RUN/report.html by default.
        results: of evaluations that are not in the run's folder.

    Returns:
        Where the page is.

    Raises:
        ModelError: ``run`` is not a run folder.
        RecipeError: its recipe cannot be read.
        UsageError: an evaluation's file is damaged or of something else, or the page cannot be written.
    """
    run = Path(run)
    if not (run / "recipe.yaml").is_file():
        raise NoModelError(
            f"{run}: not a run (no recipe.yaml); train one with {command('pathtrain pretrain --out', run)}"
        )
    recipe = recipe_of(run)
    info = info_of(run)
    rows, damaged = curves.read(run)
    saved = checkpoint.entries(run)
    step = saved[-1].step if saved else 0
    found = evaluations.find(run, [Path(path) for path in results])
    views, views_missing = _views(run, recipe, info)
    recipe = without_paths(recipe)  # pages are passed on: no path of the machine
    dataset = short_all(info.get("dataset", "DATASET")).replace(", ", " ")
    values = dict(
        name=run.resolve().name,
        run=run.resolve().name,
        facts=[*_facts(recipe, info, rows, step), *_dropped(run)],
        dataset=dataset,
        tables=[found[task] for task in map(TABLE, PAPERS) if task in found],
        heads=evaluations.heads(run),
        head_figures=told,
        said=said,
        curves=_curves(rows),
        damaged=damaged,
        spells=_spells(recipe, rows),
        views=views,
        views_missing=views_missing,
        older=info.get("identity", {}).get(VERSION_KEY) != TRAINING,
        step=step,
        milestones=milestones.entries(run),
        missing=[
            text.format(run=shlex.quote(run.resolve().name), dataset=shlex.quote(dataset))
            for task, text in COMMANDS.items()
            if not any(key == task or key.startswith(f"{task} ") for key in found)
        ],
        **{task.removeprefix("collapse "): found.get(task) for task in evaluations.FILES},
        recipe=dump(recipe),
    )
    try:
        page = render(Path(__file__).with_suffix(".html"), **values)
    except UNUSUAL as error:
        sources = [*(result.source for result in found.values()), *evaluations.heads_file(run)]
        files = ", ".join(map(str, sources or [run]))
        raise UsageError(f"{files}: of another version ({error}); run `pathtrain evaluate` again") from None
    out = run / "report.html" if out is None else local_folder(out)
    write(page, out)
    return out


def _first_weights(recipe: Recipe, identity: dict[str, Any]) -> str:
    step = identity.get(STEP_KEY)
    return f"{recipe.model.init}, step {step:,}" if isinstance(step, int) else recipe.model.init


def _facts(
    recipe: Recipe, info: dict[str, Any], rows: list[dict[str, Any]], step: int
) -> list[tuple[str, str]]:
    identity, versions = info.get("identity", {}), info.get("versions", {})
    tiles = identity.get("dataset tiles")
    total = recipe.steps if tiles is None else recipe.total_steps(tiles)
    logged = int(rows[-1]["step"]) if rows else 0
    facts = [
        ("Steps", f"{max(step, logged):,}" + (f" of {total:,}" if total else "")),
        ("Newest checkpoint", f"step {step:,}" if step else "none yet"),
        ("Method", f"{recipe.method}, batch {recipe.batch}, {recipe.precision}"),
        ("Backbone", f"{recipe.model.name} {json.dumps(recipe.model.kwargs) if recipe.model.kwargs else ''}"),
        ("First weights", _first_weights(recipe, identity)),
        ("Stain", _stain(recipe.stain)),
        ("Dataset", short_all(info.get("dataset", "unknown"))),
        ("Build id", joined(identity.get("dataset build id", "unknown"))),
        ("Tiles", tiles_in_words(identity)),
        ("Machine", ", ".join(f"{key} {value}" for key, value in versions.items()) or "unknown"),
    ]
    if info.get("drawn"):
        facts.append(("Drawn", "; ".join(info["drawn"])))
    # before the first step, there are figures of probes only
    losses, speeds, waits = (curves.points(rows, key)[1] for key in ("loss", "images_s", "data_wait"))
    measured = [("Last loss", f"{losses[-1]:.4f}")] if losses else []
    if speeds:
        measured.append(("Images per second", f"{statistics.median(speeds):.1f} (median)"))
    if waits:
        measured.append(("Waiting for data", f"{statistics.median(waits):.1%} (median)"))
    return facts[:2] + measured + facts[2:]


def _dropped(run: Path) -> list[tuple[str, str]]:
    """Slides that a run straight from slides has dropped, and why."""
    try:
        found = Record(run / FOLDER, batch=1, rank=0, world=1).slides
    except PathprepError as error:
        return [("Dropped slides", str(error))]
    said = "; ".join(f"{slide}: {reason}" for slide, reason in found.items())
    return [("Dropped slides", f"{len(found)}: {said}")] if found else []


def _stain(config: StainConfig) -> str:
    if config.mode == "none":
        return "as stored"
    jitter = []
    if config.concentration:
        jitter.append(f"concentration ±{config.concentration:g}")
    if config.angle:
        jitter.append(f"angle up to {config.angle:g}°")
    if config.shift:
        jitter.append(f"shift ±{config.shift:g}")
    if jitter and (config.p < 1 or config.per == "tile"):
        jitter.append(f"on {config.p:.0%} of {config.per}s")
    words = "normalised to " + (config.target.name if config.target else "the reference")
    if config.mode == "jitter":
        words = "jitter of each tile's own" if config.basis == "fit" else "HED jitter"
    return f"{words}{', ' if jitter else ''}{', '.join(jitter)}"


def _spells(recipe: Recipe, rows: list[dict[str, Any]]) -> list[Spell]:
    """When the run looked collapsed, the latest first."""
    health = Health(recipe, rows)
    return sorted(health.spells + health.now, key=lambda spell: -spell.first)


def _curves(rows: list[dict[str, Any]]) -> list[tuple[str, str, Markup]]:
    """Title, last value and chart of everything that was logged."""
    drawn = []
    for key in curves.charted({key for row in rows for key in row} - row_keys.PLACE.keys()):
        steps, values = curves.points(rows, key)
        if steps:
            title = curves.title(key)
            drawn.append(
                (title, chart.short(values[-1]), chart.line(steps, values, title, curves.levels(rows, key)))
            )
    return drawn


def _views(run: Path, recipe: Recipe, info: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The first tiles of the run with their views as they went into training; or why there are none."""
    if not info.get("dataset"):
        return [], "run.json does not say which dataset the run was trained on."
    if info.get("pseudonymised"):
        return [], "Not shown: a run on pseudonymised tiles does not record where its dataset lies."
    try:
        data = opened(info["dataset"], recipe)
        if data.identity()["dataset build id"] != info.get("identity", {}).get("dataset build id"):
            raise DatasetError(f"{data.said}: was built again since the run, with another build id")
        target = of_run(run, recipe)
        loader = Loader(
            data,
            replace(BatchOptions.of(recipe), batch=TILES_SHOWN),
            threads=1,
            target=target.target if target else None,
            held_out=data.tiles_of(held_out(run) or ()),
        )
        batch = next(iter(loader))
        stored = [decode(loader.read(int(tile)), loader.name(int(tile))) for tile in batch.tiles]
        stained = loader.stained(0, stored)
        shown = []
        for number, tile in enumerate(batch.tiles):
            views = [_pixels(view[number].cpu().numpy(), recipe) for view in batch.views]
            shown.append(
                {
                    "name": loader.name(int(tile)),
                    "whole": _jpeg(resize(stored[number], WHOLE_TILE)),
                    "stained": _jpeg(resize(stained[number], WHOLE_TILE)) if stained else None,
                    "views": [{"size": len(view), "picture": _jpeg(view)} for view in views],
                }
            )
        loader.close()
    except (PathprepError, OSError, ValueError) as error:  # run.json may name what no file system takes
        return [], f"The views cannot be shown: {why(error)}"
    return shown, ""


def _pixels(view: Any, recipe: Recipe) -> Any:
    """(3, H, W) normalised -> (H, W, 3) uint8."""
    std, mean = (np.array(values)[:, None, None] for values in (recipe.model.std, recipe.model.mean))
    pixels = np.clip(np.rint((view * std + mean) * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _jpeg(pixels: Any) -> str:
    return data_uri("image/jpeg", simplejpeg.encode_jpeg(pixels, 88, "RGB", "444"))
