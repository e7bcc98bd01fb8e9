"""Where coordinates are counted from, on slides whose scanned part is not the whole."""

from typing import Literal

# slide: the corner of the whole slide, as OpenSlide and this project count. bounds: the corner of the part
# that was scanned, as QuPath counts where it opens a slide cropped
Origin = Literal["slide", "bounds"]
# auto: what the file says, or its shape; a question where neither tells
AskedOrigin = Literal["auto", "slide", "bounds"]
