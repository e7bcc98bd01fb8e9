"""The six tile tasks of the EXAONEPath 1.0 paper (arXiv 2408.00380, table 1), and what it publishes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One of the six.

    Attributes:
        note: what is trained and tested on, where the title does not say.
        own_validation: the set comes with a validation part beside its training part, so that the paper,
            which divides 80:20 "where none is given", learns from all of the latter (Inferred).
    """

    key: str
    title: str
    note: str = ""
    own_validation: bool = False


@dataclass(frozen=True)
class Published:
    """A row of published figures: top-1 by task key, and what the model is.

    Attributes:
        parameters: of the backbone without a head. slides: that it was trained on.
    """

    name: str
    top1: dict[str, float]
    parameters: int
    slides: int

    def mean(self, keys: list[str]) -> float:
        """Mean over some of the tasks."""
        return sum(self.top1[key] for key in keys) / len(keys)


TASKS = (
    Task("pcam", "PCam", own_validation=True),
    Task("mhist", "MHIST"),
    Task("crc-100k", "CRC-100K", "trained on NCT-CRC-HE-100K-NONORM, tested on CRC-VAL-HE-7K"),
    Task("til", "TIL"),
    Task("msi-crc", "MSI-CRC"),
    Task("msi-stad", "MSI-STAD"),
)
EXAONEPATH = Published(
    "EXAONEPath 1.0",
    {"pcam": 0.901, "mhist": 0.818, "crc-100k": 0.946, "til": 0.939, "msi-crc": 0.756, "msi-stad": 0.804},
    parameters=85_798_656,  # ViT-B/16: timm's vit_base_patch16_224 without classes
    slides=34_795,
)
