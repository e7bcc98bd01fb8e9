"""The page of a folder of masks: every slide in small, outlined, what deserves a look first."""

from collections.abc import Mapping
from pathlib import Path

from pathprep.dataset.failed import FailedShard
from pathprep.outlining.record import Outlined
from pathprep.page import environment
from pathprep.params.shard import ShardParams
from pathprep.words import counted

HERE = Path(__file__).parent
MOST = 500  # slides with a picture: some tens of kilobytes each


def write(
    out: Path,
    root: Path,
    slides: list[Outlined],
    failures: Mapping[str, FailedShard],
    params: ShardParams,
) -> None:
    """Write the page.

    Raises:
        UsageError: it cannot be written.
    """
    ranked = sorted(slides, key=lambda slide: (-len(slide.notes), slide.share))
    shown = ranked[:MOST]
    settings = params.tissue.as_dict()
    model = settings.get("model")
    how = (
        f"a tissue model at {model['mpp']:g} µm/px, SHA-256 {model['sha256'][:12]}..."
        if model
        else f"--tissue {settings['method']}, threshold {settings['threshold']}"
    )
    environment.write(
        environment.render(
            HERE / "page.html",
            name=root.absolute().name,
            how=how,
            slides=[
                {
                    "facts": slide,
                    "warnings": [
                        *slide.warnings(),
                        *(["edited by hand since"] if slide.is_edited(root) else []),
                    ],
                    "picture": environment.data_uri(
                        "image/jpeg", (root / "thumbs" / f"{slide.slide}.jpg").read_bytes()
                    ),
                }
                for slide in shown
            ],
            left=len(ranked) - len(shown),
            area=sum(slide.area for slide in slides),
            # pages are passed on: no path of the machine
            failures=[
                (name, each.error.replace(str(Path(each.source.path).parent) + "/", ""))
                for name, each in failures.items()
            ],
            summary=counted(len(slides)),
            noted=sum(bool(slide.notes) for slide in slides),
        ),
        out,
    )
