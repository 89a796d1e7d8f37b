"""Which value each tensor of a forward holds: the edges between its operators."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor

from .findings import Value


class Values:
    """Numbers the values of one forward. What an operator writes to holds another value afterwards, and so does every
    view of it."""

    def __init__(self) -> None:
        self._next = 0
        self._views: dict[int, list[weakref.ref[Any]]] = {}  # storage -> its tensors

    def of(self, x: Any) -> Value:
        """The value of a tensor; a parameter's is its name, and a tensor that is not of this forward has none."""
        value: Value = getattr(x, '_dms_value_id', None)
        return self._new(x) if value is None and isinstance(x, FakeTensor) else value

    def _new(self, x: Any) -> Value:
        if not isinstance(x, FakeTensor):
            return None
        x._dms_value_id = self._next  # type: ignore[attr-defined]
        self._next += 1
        self._views.setdefault(x.untyped_storage()._cdata, []).append(weakref.ref(x))
        return x._dms_value_id  # type: ignore[attr-defined, no-any-return]

    def made(self, results: Sequence[Any], written: Sequence[Any]) -> tuple[list[Value], list[Value]]:
        """The values of an operator's results, and those of other views of what it wrote to."""
        gives = [self._new(x) for x in results]
        clobbers = []
        for y in written:
            # Once each: a mask that is filled place by place is written to often.
            key = y.untyped_storage()._cdata
            views = {id(z): z for ref in self._views.pop(key, ()) if (z := ref()) is not None}
            for z in views.values():
                if any(z is x for x in results):
                    self._views.setdefault(key, []).append(weakref.ref(z))
                else:
                    clobbers.append(self._new(z))
        return gives, clobbers
