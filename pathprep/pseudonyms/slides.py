"""Slides with pseudonyms, on the way into a dataset; and the way back, for repair and reports."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.pseudonyms import table
from pathprep.pseudonyms.key import Key, take
from pathprep.pseudonyms.table import Row
from pathprep.slides.alias import Alias
from pathprep.slides.find import SlideSource, whole
from pathprep.slides.own_names import own_name, printable

SHORTEST = 3  # letters of a file's name without its ending that messages are searched for


class Pseudonyms:
    """What a key file does for slides.

    Attributes:
        key: of the file.
        noting: whether slides are entered into its table.
    """

    def __init__(self, key: Key, noting: bool = True) -> None:
        self.key, self.noting = key, noting

    def hide(self, sources: Iterable[SlideSource]) -> list[SlideSource]:
        """The slides with what is said of them instead of their names; the table has them from now on.

        Raises:
            UsageError: as of ``table.add``.
        """
        hidden = [replace(source, alias=self.alias(source)) for source in sources]
        if self.noting:
            table.add(self.key, map(_row, hidden))
        return hidden

    def alias(self, source: SlideSource) -> Alias:
        """What is said of a slide."""
        key, mask = self.key, source.mask and source.mask.absolute()
        name, path = key.name(source.called), key.file(source.path)
        hidden = key.file(mask) if mask else None
        files = {source.path: path}
        if source.series is not None:
            files |= {each: key.file(each.absolute()) for each in source.series.files}
        words = {source.called: name, printable(source.called): name}
        if mask and hidden:
            files[mask] = hidden
            if source.mask is not None:
                words[str(source.mask)] = hidden
        for file, instead in files.items():
            for form in {file, file.absolute(), file.resolve()}:
                folder, _, last = instead.partition("/")
                words |= {str(form): instead, form.name: last, str(form.parent): folder}
                if len(own_name(form)) >= SHORTEST:
                    words.setdefault(own_name(form), last.partition(".")[0])
        ordered = sorted(words.items(), key=lambda pair: -len(pair[0]))
        return Alias(key.id, name, path, hidden, tuple(pair for pair in ordered if pair[0]))

    @cached_property
    def _files(self) -> Mapping[str, str]:
        """What is said of a file -> where it was when it was last given a pseudonym."""
        rows = table.rows(self.key)
        return {self.key.file(Path(path)): path for row in rows for path in (row.path, row.mask) if path}

    def path(self, said: str) -> Path | None:
        """The file that a pseudonymised path stands for; None if the table does not have it."""
        found = self._files.get(said)
        return None if found is None else Path(found)

    def source(self, source: SlideSource) -> SlideSource:
        """A slide whose paths are pseudonyms, with its own paths, and what is said instead.

        Raises:
            UsageError: the table does not have it.
        """
        path = self.path(str(source.path))
        mask = None if source.mask is None else self.path(str(source.mask))
        if path is None or (mask is None and source.mask is not None):
            raise UsageError(
                f"{self.key.table}: does not say where {source.name} is ({source.path}); bring the table "
                "back from your backup, or run `pathprep shard` again on your slides"
            )
        found = whole(replace(source, path=path, mask=mask))
        return replace(found, alias=self.alias(found))


def _row(source: SlideSource) -> Row:
    assert source.alias is not None
    return Row(
        source.alias.own_name,
        source.called,
        str(source.path),
        str(source.mask.absolute()) if source.mask else "",
    )


def key_of(info: Mapping[str, Any]) -> str | None:
    """The id of the key that a dataset was pseudonymised with, as its JSON file says; None if it was not."""
    found = info.get("pseudonymised")
    return str(found.get("key_id")) if isinstance(found, Mapping) else None


def of_dataset(info: Mapping[str, Any], key_file: Path, dataset: Path | None) -> Pseudonyms:
    """The pseudonyms of a dataset that is there.

    Args:
        info: of its JSON file. key_file: that the user gives. dataset: its folder; None of a URL.

    Raises:
        UsageError: it is not pseudonymised, or with another key; the key file cannot be used.
    """
    if not key_file.exists():
        raise UsageError(f"{key_file}: no such key file")
    key, there = take(key_file, dataset), key_of(info)
    if there is None:
        raise UsageError("`pseudonymise`: the dataset is not pseudonymised; leave it out")
    if there != key.id:
        raise UsageError(
            f"{key_file}: another key ({key.id}) than the dataset's ({there}); give that one's file"
        )
    return Pseudonyms(key)
