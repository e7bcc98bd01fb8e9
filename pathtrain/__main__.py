"""``torchrun --nproc-per-node 8 -m pathtrain pretrain ...`` starts this."""

from pathtrain.cli import main

if __name__ == "__main__":
    main()
