"""Eight float32 numbers at once in compiled code. Numba leaves it to LLVM which loops become SIMD, and LLVM
sees it neither in a short loop within another nor in a transposition.

Arrays are contiguous and taken as flat. Nothing is checked: what lies past an array's end is read, and
written. A product and a sum are never fused, so that every machine gives the same numbers.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

LANES = 8
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)


class _Lanes(types.Type):
    """What compiled code holds LANES numbers in."""


lanes = _Lanes("Lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


@intrinsic
def load(_typing: Any, array: Any, at: Any) -> Any:
    """LANES elements of a float32 array, from one on."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], _FLOATS, *given), align=4)

    return lanes(array, types.intp), code


@intrinsic
def load_bytes(_typing: Any, array: Any, at: Any) -> Any:
    """LANES elements of a uint8 array, from one on, as numbers."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        found = builder.load(_place(context, builder, signature.args[0], _BYTES, *given), align=1)
        return builder.sitofp(builder.zext(found, _WORDS), _FLOATS)

    return lanes(array, types.intp), code


@intrinsic
def store(_typing: Any, array: Any, at: Any, values: Any) -> Any:
    """Write LANES elements of a float32 array, from one on."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        array, at, values = given
        builder.store(values, _place(context, builder, signature.args[0], _FLOATS, array, at), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, values), code


@intrinsic
def splat(_typing: Any, value: Any) -> Any:
    """A number, LANES times."""

    def code(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), given[0], ir.IntType(32)(0))
        return builder.shuffle_vector(first, first, ir.Constant(_WORDS, [0] * LANES))

    return lanes(types.float32), code


@intrinsic
def add(_typing: Any, one: Any, other: Any) -> Any:
    return lanes(one, other), lambda _context, builder, _signature, given: builder.fadd(*given)


@intrinsic
def mul(_typing: Any, one: Any, other: Any) -> Any:
    return lanes(one, other), lambda _context, builder, _signature, given: builder.fmul(*given)


@intrinsic
def levels(_typing: Any, values: Any) -> Any:
    """The nearest of 0 to 255."""

    def code(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        none, most, half = (ir.Constant(_FLOATS, [value] * LANES) for value in (0.0, 255.0, 0.5))
        found = builder.fadd(given[0], half)
        found = builder.select(builder.fcmp_ordered(">", found, none), found, none)
        found = builder.select(builder.fcmp_ordered("<", found, most), found, most)
        return builder.sitofp(builder.fptosi(found, _WORDS), _FLOATS)

    return lanes(values), code


@intrinsic
def transpose(_typing: Any, source: Any, at: Any, step: Any, target: Any, to: Any, pace: Any) -> Any:
    """Write the columns of LANES rows of LANES numbers, ``step`` apart from ``at`` on, as rows, ``pace``
    apart from ``to`` on."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, at, step, target, to, pace = given
        rows = []
        for _ in range(LANES):
            place = _place(context, builder, signature.args[0], _FLOATS, source, at)
            rows.append(builder.load(place, align=4))
            at = builder.add(at, step)
        width = 1
        while width < LANES:  # squares of 2, of 4, of 8: the two off the diagonal change places
            first = [lane + LANES - width if lane & width else lane for lane in range(LANES)]
            second = [lane + LANES if lane & width else lane + width for lane in range(LANES)]
            for row in (row for row in range(LANES) if not row & width):
                pair = rows[row], rows[row + width]
                rows[row] = builder.shuffle_vector(*pair, ir.Constant(_WORDS, first))
                rows[row + width] = builder.shuffle_vector(*pair, ir.Constant(_WORDS, second))
            width *= 2
        for row in rows:
            builder.store(row, _place(context, builder, signature.args[3], _FLOATS, target, to), align=4)
            to = builder.add(to, pace)
        return context.get_dummy_value()

    numbers = types.intp
    return types.none(source, numbers, numbers, target, numbers, numbers), code


def _place(context: Any, builder: Any, kind: Any, element: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), element.as_pointer())
