"""JPEG encoding of tiles: libjpeg-turbo on all cores against nvJPEG on a card.

    python bench/bench_encode.py [--rounds 5] [--json [FILE]]

By the very measurement by which `pathprep shard --gpus` chooses, at several sizes; without a GPU, the
cores alone. Tiles are drawn, as smooth as tissue, quality 90 and 4:2:0. The cores must lead twice over to be
chosen: they read slides, too.
"""

import argparse
from typing import Any

from machine import add_json, describe, save
from rich.console import Console
from rich.table import Table

from pathprep.sharding.encoder import LEAD
from pathprep.tiles import engines
from pathprep.tiles.engines import encoders

SIZES = (224, 256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    options = parser.parse_args()
    machine = describe()
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        row: dict[str, Any] = {"size": size}
        try:
            engine = engines.of("cuda") if machine["gpus"] else None
            row |= encoders.rates(engine, size, 90, "420", options.rounds)
        except Exception as error:  # of the card: the cores' rate is worth having
            row |= encoders.rates(None, size, 90, "420", options.rounds)
            row["error"] = f"{type(error).__name__}: {error}"
        rows.append(row)
        save(options.json, "bench_encode", {"rounds": options.rounds, "lead": LEAD, "rows": rows})

    table = Table(title=f"Encoding on {machine['cpu']}, {machine['cores']} cores, {machine['date']}")
    for heading in ("px", "cores, tiles/s", "card, tiles/s", "chosen"):
        table.add_column(heading, justify="right")
    for row in rows:
        gpu = row["gpu"]
        chosen = "" if gpu is None else "cores" if row["cpu"] >= LEAD * gpu else "card"
        card = row.get("error", "" if gpu is None else f"{gpu:,.0f}")
        table.add_row(str(row["size"]), f"{row['cpu']:,.0f}", card, chosen)
    Console(width=100).print(table)
    if any("error" in row for row in rows):
        raise SystemExit("the card could not encode")


if __name__ == "__main__":
    main()
