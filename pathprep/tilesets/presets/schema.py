"""What is known of a published tile set."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pathprep.params.presets import Partition


class Rule(BaseModel):
    """Which partition images belong to.

    Attributes:
        split: its name.
        where: parts of a file's name -> what they may be, texts or ranges of numbers such as ``42-59``; all
            must fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: Partition
    where: dict[str, tuple[str, ...]] = {}

    def fits(self, parts: dict[str, str]) -> bool:
        """Whether it is about a file, given the parts of its name."""
        return all(any(_is(parts[name], each) for each in allowed) for name, allowed in self.where.items())


def _is(value: str, allowed: str) -> bool:
    low, dash, high = allowed.partition("-")
    if dash and low.isdigit() and high.isdigit():
        return value.isdigit() and int(low) <= int(value) <= int(high)
    return value == allowed


class Preset(BaseModel):
    """A published tile set.

    Attributes:
        title: what it is, in a line.
        pages: where it is to be had.
        licence: its short name. commercial: whether it allows commercial use.
        mpp: micrometres per pixel. crop: whether images are not square, and their central square is taken.
        classes: in the publishers' order.
        layout: lines that show how it lies on disk.
        format: ``files``, or one that import-tiles reads anyway.
        files: of ``files``: patterns of paths; their named parts are ``label``, perhaps ``group`` and
            ``split``, and what ``splits`` are told by.
        passed: patterns of images that the set holds beside these, each with the reason to leave them.
        names: what labels and partitions are called on disk -> here.
        splits: the first that fits counts; empty where names of folders or tables tell.
        counts: images of each partition, as published.
        taken: partitions that are taken unless one is asked for; empty: all.
        groups: what they are, in words.
        sources: where all this is written. unsure: what is not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    pages: Annotated[tuple[str, ...], Field(min_length=1)]
    licence: str
    commercial: bool | None
    mpp: Annotated[float, Field(gt=0)]
    crop: bool = False
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    layout: str
    format: Literal["files", "csv", "hdf5"] = "files"
    files: tuple[str, ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    names: dict[str, str] = {}
    splits: tuple[Rule, ...] = ()
    counts: dict[Partition, int]
    taken: tuple[Partition, ...] = ()
    groups: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    unsure: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        parts = [set(re.compile(each).groupindex) for each in self.files]
        assert bool(self.files) == (self.format == "files"), "`files` are for the format of that name"
        assert all("label" in each for each in parts), "a pattern names no label"
        assert all(set(rule.where) <= each for rule in self.splits for each in parts), (
            "a rule asks for no part"
        )
        return self
