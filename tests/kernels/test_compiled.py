"""Compiled kernels: the same pixels just compiled and from numba's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VIEWS = """
import hashlib
import numpy as np
from pathprep.kernels.colour_reference import UNCHANGED
from pathtrain.data.view_cutter import _cut
rng, digest = np.random.default_rng(0), hashlib.sha256()
for size in (32, 96, 224):
    for grey in (0, 1, 0):
        tile = rng.integers(0, 256, (150, 170, 3), np.uint8)
        colour = UNCHANGED + rng.normal(0, 0.1, UNCHANGED.shape)
        colour[13] = grey
        row = np.array([0.1, 0.9, 0.7, 0.2, *colour, grey, size / 60, grey], np.float32)
        out, scratch = np.empty((3, size, size), np.float32), np.empty((2, 3 * size * size), np.float32)
        _cut(tile, row, out, scratch, *np.ones((2, 3), np.float32))
        digest.update(out)
found = _cut
"""
STAIN = """
import hashlib
import numpy as np
from pathprep import stain
from pathprep.kernels import macenko_cpu
rng, digest = np.random.default_rng(0), hashlib.sha256()
light = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
density = rng.gamma(2, 0.4, (6, 96, 96, 2)) @ light
tiles = np.clip(240 * np.exp(-density), 0, 255).astype(np.uint8)
digest.update(np.ascontiguousarray(stain.normalize(tiles)))
found = macenko_cpu._fit_batch
"""


@pytest.mark.parametrize(
    "code",
    [pytest.param(VIEWS, marks=pytest.mark.slow), pytest.param(STAIN, marks=pytest.mark.slow)],
    ids=["views", "stain"],
)
def test_just_compiled_and_from_the_cache(tmp_path: Path, code: str) -> None:
    tell = "print(digest.hexdigest(), sum(found.stats.cache_hits.values()))"
    said = [
        subprocess.run(
            [sys.executable, "-c", code + tell],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert [int(hits) for _, hits in said] == [0, 1]
    assert said[0][0] == said[1][0]
