"""Structure file + architecture -> slim plain module. Needs no tracing and works on any device, ``meta`` too."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import nn

from .fit import changes_of, check_fit
from .narrow import narrow_layers, warn_of
from .rehearsal import try_slim
from .shrink import apply_changes, resume_mode
from .skip import Skip
from .structure import Structure, StructureError

__all__ = ['Skip', 'build_slim']


def build_slim(
    model: nn.Module,
    structure: Structure | str | os.PathLike[str],
    *,
    edited: bool = False,
    example_inputs: Any = None,
    forward_fn: Callable[..., Any] | None = None,
) -> nn.Module:
    """Make a freshly built supernet architecture slim, in place, and return it.

    Args:
        model: the architecture that was searched, on any device.
        structure: a :class:`Structure` or the path of its file.
        edited: accept a file that was changed after it was written; needs ``example_inputs``.
        example_inputs: as for :func:`make_searchable`; a copy of the slim model is run on them first, without data.
        forward_fn: called as ``forward_fn(model, example_inputs)`` instead of ``model(...)`` then.

    Returns:
        The same module with smaller parameters; classes and names as before, removed blocks are ``nn.Identity``, or
        gone from their list where it is concatenated. With ``structure.renumber``, blocks are numbered anew.

    Raises:
        StructureError: unreadable or inconsistent file, a changed one, one for another architecture, or one whose slim
            model doesn't run. Names the field; the model is as it was.

    Warns:
        UserWarning: names layers so narrow that torch on this CPU trains them wrongly in channels_last.
    """
    if isinstance(structure, Structure):
        structure.check()
    else:
        structure = Structure.load(structure, edited)

    def rehearse() -> None:
        if example_inputs is not None:
            try_slim(model, structure, example_inputs, forward_fn)
        elif structure.changed:
            raise StructureError(
                'digest: the structure file was changed after it was written, and its slim model has to be tried: give '
                '`example_inputs` to build_slim, or use `dms slim --edited`.'
            )

    slim = fitting_slim(model, structure, rehearse)
    warn_of(narrow_layers(slim))
    return slim


def fitting_slim(model: nn.Module, structure: Structure, rehearse: Callable[[], None] | None = None) -> nn.Module:
    """Carry out a checked structure if it fits the model; ``rehearse`` is called once it does, before."""
    changes = changes_of(model, structure)
    check_fit(model, structure, changes)
    if rehearse is not None:
        rehearse()
    return resume_mode(apply_changes(model, structure, changes))
