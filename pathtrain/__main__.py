"""``torchrun --nproc-per-node 8 -m pathtrain pretrain ...`` starts this."""

import sys

from pathtrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
