"""Checks a survey: its files against their seals, masks against their figures, slides against their files."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pathprep.dataset.failed import failed_of
from pathprep.dataset.verify import Findings
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathprep.surveys import folder, record

AGAIN = "the next `pathprep survey` makes it again"


def verify(root: Path, threads: int = 2) -> Iterator[Findings]:
    """Check every slide of a survey, then its folder.

    Yields:
        Findings per slide, in the order of names; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: no survey, or its survey.json is damaged.
    """
    info = folder.info_of(root)

    def check(name: str) -> Findings:
        found, file = Findings(name), f"slides/{name}.json"
        slide = record.read(root / file)
        if slide is None:
            found.problems.append(f"{file}: damaged; {AGAIN}")
            found.lost = True
        elif slide.build_id != info["build_id"]:
            found.problems.append(f"{file}: made with other parameters; {AGAIN}")
        else:
            try:
                slide.tissue.unpacked()
            except ValueError as error:
                found.problems.append(f"{file}: {error}; {AGAIN}")
            if changed := slide.changed():
                found.problems.append(
                    f"{slide.path}: {changed}; training would drop the slide: bring it back, or survey it "
                    "again where it is now"
                )
        return found

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(check, folder.names(root))
    yield _check_folder(root)


def _check_folder(root: Path) -> Findings:
    found = Findings("(folder)")
    for name in folder.FOLDERS:
        for path in sorted((root / name).iterdir()) if (root / name).is_dir() else ():
            if path.name.startswith(atomic.PREFIX):
                found.problems.append(
                    f"{name}/{path.name}: temporary file of a killed run, which the next one removes"
                )
            elif path.suffix != ".json":
                found.notes.append(f"{name}/{path.name}: not of pathprep; left as it is")
            elif name == "failed" and failed_of(read_json(path)) is None:
                found.problems.append(f"{name}/{path.name}: damaged; delete it")
    return found
