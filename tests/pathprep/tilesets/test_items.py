"""Which images meet in a shard."""

import numpy as np

from pathprep.tilesets.items import Item, pack


def test_packing_never_divides_a_group_with_others() -> None:
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(1, 9, 40).tolist(), 25, 20]
    items = [
        Item(f"{group}-{n}.png", "l", f"g{group}", "train" if group % 2 else "test")
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    items += [Item(f"alone-{n}.png", "l", None, "test") for n in range(30)]
    packed = pack(items, "set", 10)
    shuffled = [items[place] for place in rng.permutation(len(items))]
    assert pack(shuffled, "set", 10) == packed
    assert sorted(item.source for part in packed.values() for item in part) == sorted(i.source for i in items)
    for name, part in packed.items():
        assert 1 <= len(part) <= 10
        assert {item.split for item in part} == {name.split("-")[1]}
    where: dict[str, set[str]] = {}
    for name, part in packed.items():
        for item in part:
            if item.group:
                where.setdefault(item.group, set()).add(name)
    divided = {group: names for group, names in where.items() if len(names) > 1}
    assert divided.keys() == {"g40", "g41"}
    for group, names in divided.items():
        assert {item.group for name in names for item in packed[name]} == {group}
    # well filled all the same
    assert len(packed) <= len(items) / 10 * 1.5
