"""`pathtrain evaluate slides`: features and labels of slides to scores, charts and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.params.settings import build
from pathprep.slides.own_names import SlideNames
from pathprep.storage import atomic
from pathtrain.evaluate.slide_level import figures, task_figures
from pathtrain.evaluate.slide_level.attention import check_attention, write_attention
from pathtrain.evaluate.slide_level.benchmark import evaluate
from pathtrain.evaluate.slide_level.external import open_bags, with_external
from pathtrain.evaluate.slide_level.page import page
from pathtrain.evaluate.slide_level.patients import by_patient
from pathtrain.evaluate.slide_level.tasks import Missing, Task, read_tasks
from pathtrain.features.bags import Bags
from pathtrain.params.slide_level import SlidesConfig


def slides(
    features: Sequence[str | Path],
    labels: Sequence[str | Path],
    *,
    tasks: str | Path | None = None,
    task: Sequence[str] = (),
    dataset: str | Path | None = None,
    heatmap: Sequence[str] = (),
    allow_missing: bool = False,
    out: str | Path | None = None,
    attention: str | Path | None = None,
    test_features: Sequence[str | Path] = (),
    test_labels: Sequence[str | Path] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Score frozen features on labels of slides: bag models, a linear head, and colour alone beside them.

    Args:
        features: folders that ``embed`` wrote, one per model; ``"NAME=FOLDER"`` names a model.
        labels: CSVs with slide_id, a column per task, and maybe split and patient_id, read as one; with
            ``tasks``: or the folder of its CSVs.
        tasks: a YAML of tasks, or ``exaonepath2``, ``camelyon16-small``, ``panda-small``; None: every column
            of classes is a task.
        task: names of those to run; empty for all. Without ``tasks``: columns, as pathtrain.params.tasks
            reads them: ``"grade:ordinal"``, ``"age:regression"``, ``"OS_MONTHS,OS_STATUS:survival"``.
        dataset: of the same slides: adds the colour baseline, and thumbnails to the heat maps.
        heatmap: test slides to draw; empty: one per class and task.
        allow_missing: leave labelled slides without features out, instead of refusing.
        out: a folder for slides.html and the charts, which is created; None: none is written.
        attention: Parquet or CSV for the attention of every tile of every scored slide, as
            pathtrain.evaluate.slide_level.attention has it; of one folder of features.
        test_features: an external test set: a folder for each of ``features``, in their order; empty: the
            same folders hold it.
        test_labels: its labels, all of which are scored; what ``labels`` have for testing stays out.
        settings: of SlidesConfig, by their flat names: ``method=["abmil"], folds=5``.

    Returns:
        JSON-able; see benchmark.evaluate.

    Raises:
        UsageError: files that cannot be read or do not fit, a split that cannot be, a slide that the dataset
            lacks, or a method without bags.
    """
    config = build(SlidesConfig, settings).settled()
    models = [open_bags(str(each)) for each in features]
    known, names = _shared(models), None if tasks is None else str(tasks)
    found = read_tasks([Path(path) for path in labels], names, known, only=task, allow_missing=allow_missing)
    if test_labels or test_features:
        if config.folds is not None:
            raise UsageError("`folds`: not with `test_labels`, which says what is scored")

        def read(others: Sequence[Bags]) -> list[Task | Missing]:
            paths = [Path(path) for path in test_labels]
            return read_tasks(
                paths, names, _shared(others), only=task, allow_missing=allow_missing, part="test"
            )

        models, found = with_external(models, found, test_features, test_labels, read)
        known = _shared(models)
    if config.by == "patient":
        found = [by_patient(each) if isinstance(each, Task) else each for each in found]
    place = None if dataset is None else Path(dataset)
    if attention is not None:
        check_attention(Path(attention), models, config)
    done = evaluate(
        models,
        found,
        config,
        dataset=place,
        heatmaps=[known.find(name) or name for name in heatmap] or None,
        every=attention is not None,
    )
    if attention is not None:
        write_attention(Path(attention), models[0], done.attention)
    if out is not None:
        pictures = figures.charts(done.result)
        maps = figures.heatmaps(done.attention, models, place)
        files = {f"{name}.png": picture for name, picture in pictures.items()}
        own = task_figures.task_pictures(done.result)
        files["slides.html"] = page(done.result, pictures, maps, own).encode()
        Path(out).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic.write_alone(Path(out) / name, content)
    return done.result


def _shared(models: Sequence[Bags]) -> SlideNames:
    """The slides that all folders hold."""
    names = [model.names for model in models]
    both = frozenset.intersection(*names)
    if not both:
        raise UsageError("the folders of features share no slide; give folders of the same slides")
    own = {slide: tuple(dict.fromkeys(name for each in names for name in each.own[slide])) for slide in both}
    return SlideNames.of(both, own)
