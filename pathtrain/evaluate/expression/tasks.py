"""A folder becomes tasks, each with its folds: of HEST-Benchmark's layout, or of plain sections."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.evaluate.expression import counts as counting
from pathtrain.evaluate.expression import folds, hest_layout, plain_sections
from pathtrain.evaluate.expression.h5ad import Counts
from pathtrain.evaluate.expression.hest_layout import HestSection
from pathtrain.evaluate.expression.plain_sections import PlainSection
from pathtrain.evaluate.expression.spots import Fold, Section, Task
from pathtrain.evaluate.statistics import Ints
from pathtrain.params.expression import HestParams

Divided = tuple[Task, list[Fold], str]

log = logging.getLogger(__name__)


def tasks_of(path: Path, params: HestParams, genes: Path | None, patients: Path | None) -> list[Divided]:
    """The tasks of a folder, each with its folds and what a fold is: ``split``, ``patient``, ``section``,
    ``blocks``.

    Args:
        genes: a list. patients: a table.

    Raises:
        UsageError, DatasetError: see pathtrain.evaluate.expression.study.hest.
    """
    if not path.is_dir():
        raise UsageError(
            f"{path}: not a folder; give a task of HEST-Benchmark, or a folder of plain sections"
        )
    given = None if genes is None else counting.listed(genes)
    owners = {} if patients is None else folds.patients_of(patients)
    if plain_sections.is_plain(path):
        return [_plain(path, params, given, genes, owners)]
    found = hest_layout.task_folders(path)
    if not found:
        raise UsageError(
            f"{path}: neither a task of HEST-Benchmark (patches/*.h5, adata/*.h5ad), nor a folder of "
            "such tasks, "
            f"nor one of plain sections ({plain_sections.TABLE}, or {plain_sections.COUNTS})"
        )
    if params.pitch_um is not None or params.picture_mpp is not None:
        raise UsageError(
            f"{path}: `pitch_um` and `picture_mpp` are of plain sections; HEST's tiles are cut already"
        )
    return [_hest(each, params, given, genes, owners) for each in found]


def _hest(
    path: Path, params: HestParams, given: list[str] | None, source: Path | None, owners: dict[str, str]
) -> Divided:
    listed = path / hest_layout.GENES
    if given is None and listed.is_file():
        given, source = counting.listed(listed), listed
    sections: list[Section] = []
    tables = []
    for name, (tiles, expression) in hest_layout.samples(path).items():
        table = Counts(expression)
        sections.append(HestSection(name, tiles, owners.get(name, ""), table))
        tables.append(table)
    _check_owners(path, sections, owners)
    task = _task(path, sections, tables, params, given, source)
    splits = hest_layout.splits(path) if params.folds == "auto" else []
    if splits:
        return task, folds.by_split(task, splits), "split"
    return _divided(task, params)


def _plain(
    path: Path, params: HestParams, given: list[str] | None, source: Path | None, owners: dict[str, str]
) -> Divided:
    sections: list[Section] = []
    tables = []
    for about in plain_sections.stated(path, params.pitch_um, params.picture_mpp):
        section = PlainSection(about)
        section.patient = owners.get(section.name, section.patient)
        section.close()  # a picture at a time
        sections.append(section)
        tables.append(section.counts)
    _check_owners(path, sections, owners)
    return _divided(_task(path, sections, tables, params, given, source), params)


def _check_owners(path: Path, sections: list[Section], owners: dict[str, str]) -> None:
    if owners and not {section.name for section in sections} & owners.keys():
        raise UsageError(
            f"{path}: no sample is in the table of patients; samples are {sections[0].name} and the "
            "like, the "
            f"table's {next(iter(owners))} and the like"
        )


def _divided(task: Task, params: HestParams) -> Divided:
    if params.folds == "blocks":
        return task, folds.in_parts(task, params.blocks), "blocks"
    kind = "section" if params.folds == "section" else "patient"
    return task, folds.one_out(task, kind), kind


def _task(
    path: Path,
    sections: list[Section],
    tables: Sequence[counting.Table],
    params: HestParams,
    given: list[str] | None,
    source: Path | None,
) -> Task:
    """Values of all sections, checked."""
    rows: list[Ints] = []
    for section, table in zip(sections, tables, strict=True):
        places = {spot: row for row, spot in enumerate(table.spots.tolist())}
        rows.append(np.array([places[spot] for spot in section.spots], dtype=np.int64))
        left = [f"{count} {why}" for why, count in section.left_out.items() if count]
        if left:
            log.info(
                "%s: %s; left out: %s", section.name, counted(len(section.spots), "spot"), ", ".join(left)
            )
    genes = given if given is not None else counting.most_variable(tables, rows, params.top_genes)
    values, totals = [], []
    for section, table, kept in zip(sections, tables, rows, strict=True):
        found = table.of(genes)[kept]
        counting.checked(found, table.path, section.spots, genes, params.any_values)
        values.append(found)
        totals.append(table.totals()[kept])
    scaled = params.counts == "scaled"
    origin = (
        str(source)
        if source is not None
        else (f"the {len(genes)} of the largest variance of log1p counts over all spots, tested ones too")
    )
    return Task(
        path.name or str(path),
        path,
        sections,
        genes,
        origin,
        counting.logged(np.concatenate(values), np.concatenate(totals), scaled),
        [table.path for table in tables],
    )
