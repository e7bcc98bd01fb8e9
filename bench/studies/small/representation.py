"""Part 1: does a small encoder, trained for minutes, know more of tissue than colour, texture and chance do?

Two arms on all tiles that may be trained on, the same network, views and steps: the chosen recipe, and the same with
the other objective (DINO's class token alone, centred by the mean; or DINOv2 with its regulariser). Each is scored on
test groups that neither training nor choice has seen, at several steps, beside what encoders.py lists.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pathtrain.recipes.strict import Strict
from small.config import Study
from small.encoders import BASELINES, COLOUR, IMAGENET, PATTERNS, RANDOM, START, Encoder, beside, features
from small.encoders import handmade, of_runs
from small.pool import pool
from small.scores import FIGURES, Labels, guesses, table
from small.tiles import folder
from small.training import Job, seconds, trained

# set, kind of tiles, column that is asked: where content decides, and where it is known that colour does
TASKS = (
    ("ebhi", "plain", "label"),
    ("ebhi", "equalised", "label"),
    ("lc25000", "plain", "label"),
    ("lc25000", "equalised", "label"),
    ("mitoses", "plain", "label"),
)
