"""The command `pathprep`, a module a command. They import what they need when they run: --help is instant."""

from pathprep.cli import (
    audit,
    dialect,
    doctor,
    import_tiles,
    inspect,
    mix,
    overlay,
    pseudonyms,
    shard,
    survey,
    synth,
    target,
    tissue,
    view,
)
from pathprep.cli import report as dataset
from pathprep.cli.dialect import add, new_app

app = new_app("Slides to tissue tiles to Macenko stain normalisation to WebDataset shards.")
# In the order of their use
for command in (
    shard.shard,
    import_tiles.import_tiles,
    survey.survey,
    inspect.inspect,
    tissue.tissue,
    view.view,
    dataset.verify,
    dataset.repair,
    dataset.report,
    mix.mix,
    overlay.overlay,
    pseudonyms.pseudonyms,
    audit.audit,
    target.target,
    synth.synth,
    doctor.doctor,
):
    add(app, command)


def main() -> None:
    """Entry point of the command."""
    dialect.main(app)
