"""Options of `pathtrain embed` that go with slides; quick to import, so that help is instant."""

from pathprep.params.settings import flat
from pathprep.params.shard import ShardParams

SLIDE_TIMEOUT_S = 1800.0
SCRATCH_LIMIT_GB = 100.0
# Parameters of `pathprep shard` that shape what is stored only, or go by another name here
NOT_TAKEN = ("quality", "subsampling", "encoder", "seed")
TILE_SETTINGS = frozenset(flat(ShardParams).keys() - set(NOT_TAKEN))
