"""Slides to features by slide2vec, for bench_embed_slides.py: its pipeline, the same network, on the CPU.

    python bench/embed_peers.py PACKAGES NETWORK MPP OUT SLIDES...

PACKAGES is a folder that it is installed in (`pip install --target`), with the versions that it asks for. It
finds tissue by its own rules, so that its tiles are others, and writes how many there are to OUT/tiles.json.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Run its pipeline as its documentation has it."""
    packages, network, mpp, out, *slides = sys.argv[1:]
    sys.path.insert(0, packages)
    os.environ["WANDB_MODE"] = "disabled"
    from hs2p import PreviewConfig, TilingConfig
    from slide2vec import ExecutionOptions, Model, Pipeline, PreprocessingConfig
    from slide2vec.encoders import TimmTileEncoder, register_encoder

    @register_encoder(
        "bench",
        encode_dim=384,
        input_size=224,
        supports_variable_input_size=False,
        supported_spacing_um=float(mpp),
        precision="fp32",
        patch_size=16,
    )
    class Bench(TimmTileEncoder):  # type: ignore[misc]
        def __init__(self, *, output_variant: str | None = None) -> None:
            super().__init__(network, output_variant=output_variant, pretrained=False)

    tiling = TilingConfig(
        backend="openslide",
        requested_spacing_um=float(mpp),
        requested_tile_size_px=224,
        tolerance=0.05,
        overlap=0.0,
    )
    pipeline = Pipeline(
        model=Model.from_preset("bench", device="cpu"),
        preprocessing=PreprocessingConfig(tiling=tiling, preview=PreviewConfig()),
        execution=ExecutionOptions(output_dir=Path(out), batch_size=64, precision="fp32", num_gpus=1),
    )
    result = pipeline.run(slides=slides)
    tiles = sum(each.num_tiles for each in result.tile_artifacts)
    Path(out, "tiles.json").write_text(json.dumps(tiles))


if __name__ == "__main__":
    main()
