"""What the user names, opened for training: datasets, mixed shards, a survey, or slides, surveyed first."""

import logging
from collections.abc import Iterable
from pathlib import Path

import pathprep
from pathprep.errors import DatasetError, UsageError
from pathprep.params.running import AnyPath, listed
from pathprep.slides import find
from pathprep.slides.endings import EXTENSIONS
from pathprep.storage.base import is_url
from pathprep.surveys.folder import NAME, is_survey
from pathprep.words import command, counted
from pathtrain.data import training_data
from pathtrain.data.online.survey_data import SurveyData
from pathtrain.data.trained_on import TrainingData
from pathtrain.recipes.recipe import Recipe

SURVEY = "survey"  # of a run that was given slides
_KNOWN = ("dataset.json", "mixed.json", "plan.json", NAME)

log = logging.getLogger(__name__)


def opened(
    places: AnyPath | Iterable[AnyPath], recipe: Recipe, run: Path | None = None, begun: bool = False
) -> TrainingData:
    """What is trained on; of slides, their survey in RUN/survey must be there (``survey_first``).

    Args:
        places: folders or URLs of datasets, of mixed shards or of a survey; or slides.
        run: the run's folder; of a survey, what is dropped is kept there.
        begun: whether the run has begun: then only RUN/survey says which slides there are.

    Raises:
        DatasetError, UsageError: see training_data.opened and SurveyData.
    """
    roots = listed(places)
    surveys = [root for root in roots if is_survey(root)]
    if run is not None and not surveys and is_survey(run / SURVEY) and (begun or are_slides(roots)):
        surveys = roots = [run / SURVEY]
    if not surveys:
        return training_data.opened(places)
    if len(roots) > 1:
        raise UsageError(
            f"{surveys[0]}: a survey is trained on alone; survey all slides into one with `pathprep survey`"
        )
    return SurveyData(surveys[0], recipe, run)


def are_slides(places: AnyPath | Iterable[AnyPath]) -> bool:
    """Whether the user names slides: files, or folders that are nothing of ours and hold some."""
    roots = listed(places)
    return bool(roots) and all(_holds_slides(root) for root in roots)


def _holds_slides(root: AnyPath) -> bool:
    if is_url(root):
        return False
    path = Path(root)
    if path.is_file():
        return path.suffix.lower() in {*EXTENSIONS, ".csv"}
    if not path.is_dir() or any((path / name).exists() for name in _KNOWN):
        return False
    try:
        return bool(find.look([path]).slides)
    except UsageError:
        return False


def survey_first(places: AnyPath | Iterable[AnyPath], run: Path) -> None:
    """Survey slides into RUN/survey, and say so.

    Raises:
        UsageError: a slide is named twice with different things said of it.
        DatasetError: no slide can be used, or the survey did not come to its end.
    """
    root = run / SURVEY
    log.info("%s: surveying slides into %s, once", ", ".join(map(str, listed(places))), root)
    done = pathprep.survey(places, root)
    if done.interrupted:
        raise KeyboardInterrupt
    again = command("pathprep survey SLIDES --out", root)
    if done.stopped:
        raise DatasetError(f"{root}: {done.stopped}")
    if not done.done:
        first = next(iter(done.failures.values())).error
        raise DatasetError(f"{root}: none of {counted(done.slides)} can be used ({first}); see {again}")
    for name, failure in sorted(done.failures.items()):
        log.warning("not trained on: slide %s: %s", name, failure.error)
    log.info("%s of %s surveyed", f"{len(done.done):,}", counted(done.slides))
