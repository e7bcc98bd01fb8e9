"""Parameters of `pathtrain evaluate hest`; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import KeptHow

Protocol = Literal["pca", "plain", "both"]
Folds = Literal["auto", "patient", "section", "blocks"]
Counts = Literal["raw", "scaled"]
DATA, REGRESSION = "Tiles", "Training"


@dataclass(frozen=True)
class HestParams:
    """Parameters of `pathtrain evaluate hest`.

    Attributes:
        protocol: ``pca``: StandardScaler, PCA(256), ridge, as HEST's published table; ``plain``: ridge on the
            features as they are, as HEST's code does without dimension reduction; ``both``.
        folds: ``auto``: the splits of the folder, if it has any, else by patient; ``patient``, ``section``:
            leave one out; ``blocks``: parts of each section, for data of one section.
        blocks: parts that ``blocks`` makes of a section.
        top_genes: so many most variable genes, where no list is given.
        counts: ``raw``: log1p of counts, as HEST; ``scaled``: each spot's counts to the median total first.
        any_values: take values that are no counts (not whole).
        pitch_um: micrometres between neighbouring spots of the array, which give pictures their MPP.
        picture_mpp: of pictures whose table does not say it.
        seed: of the random weights and of the bootstrap.
    """

    protocol: Annotated[
        Protocol, Setting("pca as HEST's published table; plain, without PCA; or both.", REGRESSION)
    ] = "pca"
    folds: Annotated[
        Folds,
        Setting(
            "auto: the folder's splits, else by patient; patient or section: leave one out; blocks: parts of "
            "each section.",
            REGRESSION,
        ),
    ] = "auto"
    blocks: Annotated[int, Setting("Parts of a section with `folds` blocks.", REGRESSION)] = 5
    top_genes: Annotated[int, Setting("Most variable genes, where no list of genes is given.", DATA)] = 50
    counts: Annotated[
        Counts,
        Setting("raw: log1p of counts, as HEST; scaled: each spot to the median total before that.", DATA),
    ] = "raw"
    any_values: Annotated[
        bool, Setting("Take values that are no whole counts, as HEST's code does unasked.", DATA)
    ] = False
    pitch_um: Annotated[
        float | None,
        Setting("Plain sections: um between neighbouring spots. Default: 200 in an ST folder.", DATA),
    ] = None
    picture_mpp: Annotated[
        float | None, Setting("Plain sections: MPP of pictures whose table does not say it.", DATA)
    ] = None
    seed: Annotated[int, Setting("Of random weights and bootstrap, from 0.", REGRESSION)] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check(
            {
                "`protocol` must be pca, plain or both": self.protocol in get_args(Protocol),
                "`folds` must be auto, patient, section or blocks": self.folds in get_args(Folds),
                "`blocks` must be at least 2": self.blocks >= 2,
                "`top_genes` must be above 0": self.top_genes >= 1,
                "`counts` must be raw or scaled": self.counts in get_args(Counts),
                "`pitch_um` must be above 0": self.pitch_um is None or self.pitch_um > 0,
                "`picture_mpp` must be above 0": self.picture_mpp is None or self.picture_mpp > 0,
                "`seed` must not be negative": self.seed >= 0,
            }
        )

    @property
    def protocols(self) -> tuple[str, ...]:
        """``pca``, ``plain``, or these two."""
        return ("pca", "plain") if self.protocol == "both" else (self.protocol,)
