"""``torchrun --nproc-per-node 8 -m pathtrain pretrain ...`` starts this; so does the command `pathtrain`."""

from pathprep.__main__ import start


def main() -> None:
    """Entry point of the command."""
    start("pathtrain.cli")


if __name__ == "__main__":
    main()
