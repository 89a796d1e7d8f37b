"""Random grids on the small network, and what must hold of every structure of such a space."""

import fnmatch

import torch

from builders.small import searchable


def random_settings(seed):
    """``units`` of the small network: bounds, steps, multiples and ties, drawn."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    def widths(size):
        given = dict(step=draw(1, 1, 2, 4), round_to=draw(1, 2, 4, 8), min=draw(1, 3, size // 8))
        return {**given, 'max': draw(size, size, 3 * size // 4, size - 3)}

    return {
        'stem.0': widths(32),
        'layer1.*.conv1': {**widths(48), 'tie': draw(None, True, 'inner')},
        'layer2.*.conv1': {**widths(80), 'tie': draw(None, True)},
        'down.0': widths(64),
        'layer[12]/depth': dict(min=draw(0, 1), max=draw(2, 3, 3), tie=draw(None, True)),
    }


def with_grid(seed, **options):
    return searchable(units=random_settings(seed), **options)


def check_on_grid(space, settings, keep):
    """Compares a structure with what was asked for, not with what the space made of it."""
    tied = {}
    for unit in space.units.values():
        pattern = next(p for p in settings if fnmatch.fnmatchcase(unit.name, p))
        given, kept = settings[pattern], keep[unit.start : unit.start + unit.size].tolist()
        count = sum(len(r) for r, k in zip(unit.roots, kept) if k) if unit.kind == 'channel' else sum(kept)
        assert given['min'] <= count <= given['max'], unit.name
        assert count % given.get('round_to', 1) == 0 or all(kept), unit.name
        if given.get('tie'):
            name = pattern if given['tie'] is True else given['tie']
            assert tied.setdefault(name, sum(kept)) == sum(kept), unit.name
