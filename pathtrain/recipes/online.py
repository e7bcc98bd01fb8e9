"""What a recipe says about tiles that are drawn straight from slides; datasets have theirs on disk."""

from typing import Annotated

from pydantic import Field

from pathtrain.recipes.strict import Count, Positive, Share, Strict


class OnlineConfig(Strict):
    """Drawing tiles from a survey; see pathtrain.data.online.

    Attributes:
        tile: side of a tile, pixels.
        min_tissue: share of a tile that lies in tissue at least.
        hsv: share of its pixels that lie in hue 90 to 180, saturation 8 to 255 and value 103 to 255 (OpenCV's
            units) at least; 0: any.
        tries: places that are tried for a tile of that share; then the best of them is taken.
        coarser: so many times coarser than an MPP of ``sampling.mpps`` a slide may be; its pixels are then
            enlarged. Others are not drawn at that MPP.
        readers: processes of each rank that read slides; null: one for each of its cores.
        timeout: seconds after which a slide that gives no tile is dropped.
        max_bad_slides: slides that are dropped, for they crash, hang, cannot be read or have changed, before
            training stops.
    """

    tile: int = Field(default=256, ge=16, le=2048)
    min_tissue: Share = 0.4
    hsv: Share = 0.6
    tries: int = Field(default=8, gt=0)
    coarser: float = Field(default=2.0, ge=1)
    readers: Annotated[int, Field(gt=0)] | None = None
    timeout: Positive = 120.0
    max_bad_slides: Count = 10
