"""Reading what the compiler made of a CUDA kernel: instructions, loops, and their lines in the source.

The disassembler is in triton's package. Needs no GPU.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_TOOLS = "backends/nvidia/bin"
_PLACE = re.compile(r'//## File "[^"]*", line (\d+)')
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;")
_LABEL = re.compile(r"^\s*(\.L_x?_?\d+):")
_TARGET = re.compile(r"\bBRA.*`\((\.L_x?_?\d+)\)")
# What writes a register to local memory or reads it back; arrays that are there for good look the same
SPILL = r"(STL|LDL).*"
_REGISTER = re.compile(r"\b(U?R\d+|UP\d|P\d)\b")


@dataclass
class Instruction:
    """One machine instruction; ``lines``: of the source, from the innermost inlined function outwards."""

    text: str
    lines: frozenset[int]

    @property
    def name(self) -> str:
        """Such as ``LDS.128``, without the predicate."""
        words = self.text.split()
        return words[1] if words[0].startswith("@") else words[0]


@dataclass
class Kernel:
    """A kernel's instructions in order, and its resources."""

    name: str
    registers: int = 0
    shared: int = 0  # bytes, static, with the KiB that is the driver's on newer cards
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    @cached_property
    def loops(self) -> list[tuple[int, int]]:
        """First and last instruction of every loop."""
        found = []
        for place, instruction in enumerate(self.instructions):
            target = _TARGET.search(instruction.text)
            # a branch to itself is where a kernel's text ends
            if target and target[1] in self.labels and self.labels[target[1]] < place:
                found.append((self.labels[target[1]], place))
        return found

    def pixel_loop(self, line: int, loads: str, times: int) -> tuple[int, int]:
        """The smallest loop of what ``line`` calls with so many ``loads`` (a pattern), at least.

        Raises:
            ValueError: there is none.
        """
        fitting = [
            (last - first, first, last)
            for first, last in self.loops
            if self.count((first, last), loads) >= times
            and any(line in i.lines for i in self.instructions[first : last + 1])
        ]
        if not fitting:
            raise ValueError(f"{self.name}: no loop over pixels comes from line {line}")
        return min(fitting)[1:]

    def count(self, loop: tuple[int, int], pattern: str) -> int:
        """Instructions of a loop whose whole name matches."""
        return matching(self.instructions[loop[0] : loop[1] + 1], pattern)

    def of_lines(self, first: int, last: int) -> list[Instruction]:
        """All instructions that some lines of the source, and what they call, became."""
        lines = set(range(first, last + 1))
        return [i for i in self.instructions if i.lines & lines]

    def split(self, loop: tuple[int, int]) -> tuple[list[Instruction], list[Instruction]]:
        """A loop's own instructions, and those of the loops within it."""
        first, last = loop
        within = {
            place
            for start, end in self.loops
            if first <= start and end <= last and (start, end) != loop
            for place in range(start, end + 1)
        }
        own = [self.instructions[p] for p in range(first, last + 1) if p not in within]
        return own, [self.instructions[p] for p in sorted(within)]

    def loads_in_flight(self) -> int:
        """The most 16-byte loads from the card's memory that are issued before one of them is waited for;
        asynchronous copies into shared memory are waited for at the end only, and counted as they stand."""
        most, waiting = 0, set[str]()
        for instruction in self.instructions:
            text, name = instruction.text, instruction.name
            operands = _REGISTER.findall(text.split(",", 1)[1]) if "," in text else []
            if waiting & set(operands) or name.startswith(("BRA", "BAR")):
                waiting = set()
            if re.match(r"LDG?\.E\..*128", name):
                waiting.add(_REGISTER.findall(text.split(name, 1)[1])[0])
            elif name.startswith("LDGSTS") and "128" in name:
                waiting.add(f"copy {len(waiting)}")
            most = max(most, len(waiting))
        return most


def matching(instructions: Iterable[Instruction], pattern: str) -> int:
    """How many have a name that matches as a whole."""
    return sum(bool(re.fullmatch(pattern, i.name)) for i in instructions)


def tool(name: str) -> Path:
    """A program of the CUDA toolkit that triton brings along.

    Raises:
        FileNotFoundError: triton is not installed, or without it.
    """
    import triton

    found = Path(triton.__file__).parent / _TOOLS / name
    if not found.is_file():
        raise FileNotFoundError(found)
    return found


def read(cubin: bytes) -> dict[str, Kernel]:
    """The kernels of a cubin that was compiled with line numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        usage = _run("cuobjdump", "-res-usage", path)
        listing = _run("nvdisasm", "-c", "-gi", path)
    kernels: dict[str, Kernel] = {}
    for name, registers, shared in re.findall(r"Function (\w+):\s+REG:(\d+) .*?SHARED:(\d+)", usage):
        kernels[name] = Kernel(name, int(registers), int(shared))
    current, lines, fresh = None, set[int](), False
    for line in listing.splitlines():
        section = re.match(r"\s*\.section\s+\.text\.(\w+)", line)
        if section:
            current = kernels.get(section[1])
        elif re.match(r"\s*\.section\s", line):
            current = None
        if current is None:
            continue
        if place := _PLACE.search(line):
            if fresh:  # the first after an instruction: another place
                lines, fresh = set(), False
            lines |= {int(number) for number in re.findall(r"line (\d+)", line)} | {int(place[1])}
        elif label := _LABEL.match(line):
            current.labels[label[1]] = len(current.instructions)
        elif found := _INSTRUCTION.search(line):
            current.instructions.append(Instruction(found[2], frozenset(lines)))
            fresh = True
    return kernels


def _run(name: str, *arguments: str | Path) -> str:
    return subprocess.run([tool(name), *arguments], check=True, capture_output=True, text=True).stdout
