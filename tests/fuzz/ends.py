"""Cases that do what no exception tells."""

import os
import time
from collections.abc import Callable


def ends() -> Callable[[int], str]:
    """Case 1 dies, 2 waits, 3 takes more memory than there is."""

    def case(number: int) -> str:
        if number == 1:
            os._exit(7)
        if number == 2:
            time.sleep(60)
        if number == 3:
            bytearray(1 << 40)
        return "done"

    return case
