"""Compiled kernels: the same pixels just compiled and from numba's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COLOUR = """
import hashlib
import numpy as np
from pathprep.kernels import colour_cpu
from pathprep.kernels.colour_reference import UNCHANGED
rng, digest = np.random.default_rng(0), hashlib.sha256()
for side in (32, 96, 224):
    for grey in (0, 1, 0):
        view = rng.integers(0, 256, (side, side, 3), np.uint8)
        setting = (UNCHANGED + rng.normal(0, 0.1, UNCHANGED.shape)).astype(np.float32)
        setting[13] = grey
        digest.update(colour_cpu.apply(view, setting))
found = colour_cpu.apply
"""
BLUR = """
import hashlib
import numpy as np
from pathtrain.data.view_effects import _blur, _kernel
rng, digest = np.random.default_rng(0), hashlib.sha256()
for side in (32, 96, 224):
    digest.update(_blur(rng.integers(0, 256, (side, side, 3), np.uint8), _kernel(side / 60)))
found = _blur
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
    [COLOUR, pytest.param(BLUR, marks=pytest.mark.slow), pytest.param(STAIN, marks=pytest.mark.slow)],
    ids=["colour", "blur", "stain"],
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
