"""What the CUDA kernels cost, from their machine code: needs no GPU, and shows a regression without one.

    python bench/kernel_account.py [--architectures sm_80 sm_90 ...] [--json [FILE]]

Every kernel is compiled by NVRTC with CuPy's own options and disassembled. Columns: registers; instructions
that spill or keep arrays in local memory; shared memory, static and dynamic, of a 256 px tile; threads
resident on an SM, of those it can have; 16-byte loads from the card's memory in flight together; instructions
a pixel of each pass over the pixels, loops within it left out.

The model, of an H200 (132 SMs, 1.755 GHz, 4.3 TB/s; sm_90) and a 256 px tile:

    cycles = pixels / 32 * instructions a pixel / 4        an SM issues four warps' instructions a cycle
           or pixels / 32 * wavefronts a pixel             if more: shared memory serves one a cycle
           + SERIAL                                        what no pass over pixels is
    ns a tile = the larger of cycles / clock / SMs and bytes / bandwidth; copies = ns / (bytes / bandwidth)

Each pass is taken alone. It is a bound, not a measurement: nothing waits for a result, and no unit but these
two is ever full. Instructions of the loop over found pixels are counted FOUND times for 16 pixels of a warp.
"""

import argparse
from collections.abc import Iterable
from typing import Any, NamedTuple

import sass
from machine import add_json, save
from rich.console import Console
from rich.table import Table

from pathprep.kernels import cuda, macenko_cuda, tiling_cuda

SIDE = 256
PIXELS = SIDE * SIDE
# Of its memory what a kernel that copies is said to reach; step_account.py takes 3.6e12 for torch's operators
SMS, CLOCK, BANDWIDTH = 132, 1.755e9, 4.3e12
# Cycles of a tile outside its passes, assumed: 6,000 until its bytes are there and 4,000 until they are gone
# (at 50 bytes a cycle); 2,000 for sums over the block; 3,500 for the plane (9 rotations of some 350, one
# thread); 1,500 for the vectors; 2 x 4,500 for sample, two rounds of selection, keys and three more (5 x 700
# and 1,000 beside)
SERIAL = {"macenko": 26_000, "macenko_apply": 0}
# Rounds that a warp makes for 16 neighbouring pixels of each lane, of which 1.8 % are found in each tail: the
# most of 32 lanes. Counted on six tiles of MoNuSeg, 4.4 for angles and 5.2 for concentrations; painted ones
# 4.6 and 5.4
FOUND = 5


class Sm(NamedTuple):
    """What an SM has."""

    threads: int
    blocks: int
    shared: int  # bytes
    reserved: int = 1024  # of each block


ARCHITECTURES = {
    "sm_75": Sm(1024, 16, 64 << 10, 0),
    "sm_80": Sm(2048, 32, 164 << 10),
    "sm_86": Sm(1536, 16, 100 << 10),
    "sm_89": Sm(1536, 24, 100 << 10),
    "sm_90": Sm(2048, 32, 228 << 10),
    "sm_100": Sm(2048, 32, 228 << 10),
    "sm_120": Sm(1536, 24, 100 << 10),
}


class Pass(NamedTuple):
    """A loop over pixels.

    ``call``: text of the line that it comes from, once in the source. ``loads``: which instructions read
    pixels or their table entries, so many a pixel (``each``) and at least ``least`` in one turn: by them it
    is known. ``wavefronts``: of shared memory, a pixel. ``end``: text of the last line, of a loop that the
    compiler unrolls.
    """

    name: str
    call: str
    loads: str
    each: int
    least: int
    wavefronts: float
    end: str = ""


class Subject(NamedTuple):
    """A kernel: its file, threads of a block, dynamic shared memory, and its passes."""

    file: str
    kernel: str
    threads: int
    dynamic: int
    passes: tuple[Pass, ...] = ()


def subjects(shared: int) -> list[Subject]:
    """Every kernel, as launched for tiles of 256 px where a block can have so many bytes of shared memory."""
    room = macenko_cuda.keys(PIXELS, shared)
    capacity = min(PIXELS, (shared - macenko_cuda.scratch(room) - macenko_cuda.STATIC) // 48 * 16)
    words = 3 * 4 / 16  # three 16-byte accesses, four wavefronts each, of 16 pixels

    def walk(name: str, call: str, wavefronts: float) -> Pass:
        return Pass(name, call, r"LDS(\.U)?", 3, 48, wavefronts)

    # a look-up of macenko's: two lanes to a bank
    macenko = (
        walk("moments", "moments(tile, s, level, keep_any);", 6 + words),
        walk("angles", "order_statistics(tile, s.selection, Angles", 6 + words),
        walk("concentrations", "order_statistics(tile, s.selection, Concentrations", 6 + words),
        walk("output", "write(tile, s.matrix", 6 + 2 * words),
    )
    apply = (walk("apply", "transform16(m, scale, part);", 3 + 4 * words),)
    found = [
        Subject(
            "macenko.cu", "macenko", macenko_cuda.THREADS, macenko_cuda.scratch(room) + 3 * capacity, macenko
        ),
        Subject(
            "macenko_apply.cu", "macenko_apply", macenko_cuda.APPLY_THREADS, macenko_cuda.APPLY_SHARED, apply
        ),
    ]
    for kernel, side, bytes_each in (
        ("tiling_copy", SIDE, 3),
        ("tiling_halve", 2 * SIDE, 12),
        ("tiling_area", 507, 0),
    ):
        start, end = "i < HALO_ROWS * HALO_COLUMNS; i += THREADS", "out[(y - top) * 3 * COLUMNS"
        cut = Pass("resampling", start, r"(LDS(\.U)?|LD\.E)\.U8", bytes_each, bytes_each, bytes_each, end)
        passes = (cut,) if bytes_each else ()  # by area, the bytes of a pixel depend on the scale
        dynamic = tiling_cuda.staging(side, SIDE)[1]
        found.append(Subject("tiling.cu", kernel, tiling_cuda.THREADS, dynamic, passes))
    found.append(Subject("tiling.cu", "tiling_figures", tiling_cuda.THREADS, 0))
    found.append(Subject("colour.cu", "colour", 1024, 0))
    return found


def resident(kernel: sass.Kernel, subject: Subject, sm: Sm) -> int:
    """Threads of a kernel on one SM; a warp takes registers by 256."""
    warps = subject.threads // 32
    registers = warps * -(-kernel.registers * 32 // 256) * 256
    # the compiler counts the driver's KiB from sm_90 on
    static = kernel.shared - (sm.reserved if kernel.shared >= sm.reserved else 0)
    block = static + subject.dynamic + sm.reserved
    fit = min(sm.blocks, sm.threads // subject.threads, 65536 // registers, sm.shared // max(block, 1))
    return fit * subject.threads


def account(subject: Subject, architecture: str, kernel: sass.Kernel) -> dict[str, Any]:
    """A row of the table."""
    source = cuda.source(subject.file).splitlines()
    passes, spilled = {}, 0
    for each in subject.passes:
        (line,) = (number for number, text in enumerate(source, 1) if each.call in text)
        if each.end:
            (end,) = (number for number, text in enumerate(source, 1) if each.end in text)
            own = kernel.of_lines(line, end)
            passes[each.name] = len(own) / (sass.matching(own, each.loads) / each.each)
            continue
        loop = kernel.pixel_loop(line, each.loads, each.least)
        own, within = kernel.split(loop)
        spilled += sass.matching(own, sass.SPILL)
        passes[each.name] = (len(own) + FOUND * len(within)) / (kernel.count(loop, each.loads) / each.each)
    sm = ARCHITECTURES[architecture]
    row = {
        "kernel": subject.kernel,
        "architecture": architecture,
        "registers": kernel.registers,
        "spills": sass.matching(kernel.instructions, sass.SPILL),
        "spills_in_passes": spilled,
        "shared": kernel.shared + subject.dynamic,
        "resident": resident(kernel, subject, sm),
        "threads": sm.threads,
        "loads_in_flight": kernel.loads_in_flight(),
        "instructions_a_pixel": passes,
    }
    if subject.kernel in SERIAL and architecture == "sm_90":
        warps = PIXELS / 32
        costs = [max(passes[each.name] / 4, each.wavefronts) * warps for each in subject.passes]
        ns = (sum(costs) + SERIAL[subject.kernel]) / CLOCK / SMS * 1e9
        floor = 6 * PIXELS / BANDWIDTH * 1e9
        row["model"] = {
            "tiles_s": 1e9 / max(ns, floor),
            "copies": max(ns / floor, 1.0),
            "ns": ns,
            "floor_ns": floor,
        }
    return row


def accounts(architectures: Iterable[str], files: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """A row for each kernel and architecture; of some files only, if they are named."""
    rows = []
    for architecture in architectures:
        sm = ARCHITECTURES[architecture]
        kernels: dict[str, sass.Kernel] = {}
        for subject in subjects(sm.shared - sm.reserved):
            if files is not None and subject.file not in files:
                continue
            if subject.kernel not in kernels:
                kernels |= sass.read(cuda.compiled(subject.file, architecture, "-lineinfo"))
            rows.append(account(subject, architecture, kernels[subject.kernel]))
    return rows


def main() -> None:
    """Print the account."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--architectures", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES)
    )
    add_json(parser)
    options = parser.parse_args()
    rows = accounts(options.architectures)
    table = Table(title="CUDA kernels by their machine code")
    for heading in ("kernel", "card", "registers", "spills", "shared", "resident", "in flight", "a pixel"):
        table.add_column(heading, justify="left" if heading in ("kernel", "card", "a pixel") else "right")
    for row in rows:
        passes = ", ".join(f"{name} {value:.1f}" for name, value in row["instructions_a_pixel"].items())
        figures = [str(row[key]) for key in ("registers", "spills")] + [f"{row['shared']:,}"]
        flight = [f"{row['resident']} of {row['threads']}", str(row["loads_in_flight"])]
        table.add_row(row["kernel"], row["architecture"], *figures, *flight, passes)
    console = Console(width=150)
    console.print(table)
    for row in rows:
        if model := row.get("model"):
            console.print(
                f"{row['kernel']}, H200 by the model: {model['tiles_s'] / 1e6:.2f} M tiles/s of 256 px, "
                f"{model['copies']:.2f} copies"
            )
    save(options.json, "kernel_account", {"rows": rows})


if __name__ == "__main__":
    main()
