"""What is known of a public encoder; quick to import, without torch."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Channels = tuple[Positive, Positive, Positive]


class Entry(BaseModel):
    """A public encoder, as its authors published it.

    Attributes:
        title: what it is called in print.
        network: its architecture, in words.
        timm: name of the architecture: timm's, or one of pathtrain.models.networks.
        arguments: of that architecture.
        size: side of the images that it takes, pixels.
        short: side that its authors resize a tile to before they cut out the centre; None: whole tiles.
        mpp: micrometres a pixel that it was trained at, the usual one first.
        mean, std: that pixels of 0 to 1 are normalised with.
        readout: that its authors use, and width, the numbers that it gives.
        parameters: millions, as published, rounded or not; of the image tower alone.
        epsilon: of its norms, where timm's is another.
        positions: how position embeddings are brought to other grids (pathtrain.models.positions).
        licence: its short name. commercial: whether it allows commercial use.
        gated: whether the Hugging Face hub asks to accept terms first.
        hub: OWNER/NAME on the Hugging Face hub. file: of its repository, where it is none of the usual names.
        url: where the weights are, of what is not on the hub.
        stain: what its tiles were normalised with, if they were.
        sources: where all this is written.
        unsure: what is not written anywhere, and what is assumed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    network: str
    timm: str
    arguments: dict[str, Any] = Field(default={})
    size: int = Field(ge=16, le=1024)
    short: int | None = None
    mpp: Annotated[tuple[Positive, ...], Field(max_length=6)]
    mean: tuple[Share, Share, Share]
    std: Channels
    readout: Annotated[str, Field(pattern=r"^(cls|mean|cls\+mean|pooled|blocks:\d+)$")]
    width: int = Field(gt=0)
    parameters: Positive
    positions: Literal["once", "hub", "registers", "transformers"] = "registers"
    epsilon: Positive | None = None
    licence: str
    commercial: bool | None
    gated: bool
    hub: str | None = None
    file: str | None = None
    url: str | None = None
    stain: str | None = None
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    unsure: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where its weights are: an address."""
        return f"https://huggingface.co/{self.hub}" if self.hub else str(self.url)
