"""All units of a search space in one set of vectors (DESIGN 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .functional import SCORES, places, segment_order, soft_mask
from .grid import Grid
from .leaves import Leaves, Shaped

MADE_ANEW = ('mask', 'grad', 'rank', 'shift', 'differs', 'leaves')  # in every copy


class TopkBank(nn.Module):
    """Ratios, importances and masks of U units with N elements together.

    Masks are leaves: each unit's mask is a view of one storage, and its gradient a view of another, so that a backward
    pass through the model collects ``g_i = d(task loss)/d(m_i)`` of all units in one vector, apart from whatever
    else (a resource loss) trains :attr:`ratio`.

    It is the selector that a search space has by default. Another one is a subclass, built from the same arguments and
    options of its own: it makes :meth:`masks_of` its own, with :meth:`chain` to match, and what else of this class it
    needs to; buffers that it adds are saved with the rest. What a rule trains are the numbers of the buffer
    :attr:`trains`, of any shape; ``ratio`` is always the share of each unit that goes, and here the two are one.

    What is trained is a leaf that requires a gradient but a buffer, not a parameter: no optimizer, weight decay,
    gradient clipping or data-parallel reducer of the weights ever touches it.

    Args:
        sizes: elements of each unit.
        temperatures: lambda of each unit; N for widths, 4N for small counts.
        min_keep: fewest elements that each unit keeps.
        place: of an element's rank in its N-th part of [0, 1): 0 as in eq. 2, 1 as in the authors' code. In the middle,
            1/2, just ``round((1 - a) N)`` masks are at least 1/2.

    Attributes:
        differs: (U,) bool, the scores of a unit differ, so it has an order.

    Shapes: ``ratio`` (U,), ``importance``, ``mask`` and ``grad`` (N,).
    """

    trains = 'ratio'

    def __init__(
        self, sizes: Sequence[int], temperatures: Sequence[float], min_keep: Sequence[int], place: float = 0.5
    ) -> None:
        super().__init__()
        if not 0 <= place <= 1:
            raise ValueError(f'place={place!r} of the selector must be from 0 to 1')
        size = torch.tensor(list(sizes), dtype=torch.long)
        start = torch.cumsum(size, 0) - size
        self.sizes = [int(s) for s in sizes]
        self.register_buffer('ratio', torch.zeros(len(size)))
        self.register_buffer('importance', torch.zeros(int(size.sum())))
        # What a search remembers between steps; its rule adds what it needs by remember().
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        self.register_buffer('warm', torch.zeros((), dtype=torch.bool))  # warm-up: every mask shows one
        # A hardened unit shows `keep` instead of its soft mask.
        self.register_buffer('keep', torch.ones(int(size.sum()), dtype=torch.bool))
        self.register_buffer('hardened', torch.zeros(len(size), dtype=torch.bool))
        self.register_buffer('size', size, persistent=False)
        self.register_buffer('start', start, persistent=False)
        self.register_buffer('segment', torch.repeat_interleave(torch.arange(len(size)), size), persistent=False)
        self.register_buffer('temperature', torch.tensor(list(temperatures), dtype=torch.float32), persistent=False)
        self.register_buffer('min_keep', torch.tensor(list(min_keep), dtype=torch.long), persistent=False)
        # A unit of one element that may go has no order to wait for, only for a search.
        self.register_buffer('single', (size == 1) & (self.min_keep == 0), persistent=False)
        self.ratio: Tensor
        self.importance: Tensor
        self.steps: Tensor
        self.warm: Tensor
        self.keep: Tensor
        self.hardened: Tensor
        self.size: Tensor
        self.start: Tensor
        self.segment: Tensor
        self.temperature: Tensor
        self.min_keep: Tensor
        self.single: Tensor
        self.limit(self.sizes)
        self.place = float(place)
        self.remembered: set[str] = set()
        self.cut = [False] * len(self.sizes)
        self.shapes: list[Shaped] = []  # in which parameters need masks, beside (n,)
        self.begin()
        self._allocate()
        self.refresh()

    def limit(self, high: Sequence[int], step: Sequence[int] | None = None, tie: Sequence[int] | None = None) -> None:
        """Bound counts from above, round them to multiples, and tie units (:class:`~.grid.Grid`)."""
        every = range(len(self.sizes))
        numbers = [high, [1 for _ in every] if step is None else step, every if tie is None else tie]
        tensors = (torch.tensor(list(n), dtype=torch.long, device=self.size.device) for n in numbers)
        self.grid = Grid(self.size, self.min_keep, *tensors)
        if not self.grid.plain:
            self.clamp()
            self.refresh()

    def begin(self) -> None:
        """Register what is trained, where that is not the ratio; called while the bank is made."""

    # -- storage
    def _allocate(self) -> None:
        self._buffers[self.trains] = self.trained.detach().requires_grad_()
        like = self.ratio.detach()
        self.mask = torch.ones(len(self.segment), dtype=like.dtype, device=like.device)
        self.grad = torch.zeros_like(self.mask)
        self.rank = torch.zeros_like(self.mask)
        self.differs = torch.zeros(len(self.size), dtype=torch.bool, device=like.device)
        # From a rank of eq. 2 to where it counts; a single element's is the middle whatever the place.
        place = torch.where(self.size == 1, 0.5, self.place).to(like.dtype)
        self.shift = self.spread(place / self.size)
        self.leaves = Leaves(self.mask, self.grad, self.sizes, self.shapes)

    def ask(self, shapes: Iterable[Shaped]) -> None:
        """Keep masks in these shapes, too, here and in every copy."""
        self.shapes = list(dict.fromkeys([*self.shapes, *shapes]))
        self.leaves.ask(self.shapes)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TopkBank:
        super()._apply(fn, recurse)
        self._allocate()
        self.refresh()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # For copies and pickles: leaves that share one storage can't be copied one by one.
        return {k: v for k, v in self.__dict__.items() if k not in MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._allocate()
        self.refresh()

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]
        self.refresh()

    def remember(self, name: str, initial: Tensor) -> Tensor:
        """A tensor of a search rule's own, kept here as the buffer ``name``: saved, resumed and moved with the bank.

        ``initial`` is its first value; what an earlier search left goes on. Read it anew as ``bank.get_buffer(name)``
        in every step: a move to another device makes another tensor of it.

        Raises:
            ValueError: the name means something else here, or what is there has another shape.
        """
        if name not in self.remembered:
            if hasattr(self, name):
                raise ValueError(f'{name!r} is a name of the selector itself; a rule must call its state otherwise')
            self.register_buffer(name, initial.detach().to(self.ratio.device, copy=True))
            self.remembered.add(name)
        found = self.get_buffer(name)
        if found.shape != initial.shape:
            raise ValueError(
                f'{name!r} has shape {tuple(found.shape)} from an earlier rule, this one needs {tuple(initial.shape)}'
            )
        return found

    # -- masks
    @property
    def trained(self) -> Tensor:
        """What a rule moves; (U,) ratios here."""
        found = self._buffers[self.trains]
        assert found is not None
        return found

    def spread(self, values: Tensor) -> Tensor:
        """(N, ...) of values (U, ...) of units: for each element that of its unit."""
        return values.index_select(0, self.segment)

    @torch.no_grad()
    def refresh(self) -> None:
        """Ranks and masks from the present importances, trained numbers and hardened units."""
        if not len(self.segment):
            return
        self.derive()
        self.mask.copy_(self.masks_of(self.trained))
        if bool(self.warm):
            self.mask.copy_(torch.where(self.spread(self.hardened), self.mask, torch.ones_like(self.mask)))
        # On the host, so that a norm whose masks are all one needs no weighting: which units show any mask below one.
        below = torch.zeros_like(self.size).index_add(0, self.segment, (self.mask != 1).long())
        self.cut = (below > 0).tolist()

    def derive(self) -> None:
        """Set ``rank`` and ``differs``, and ``ratio`` where another number is trained."""
        order = segment_order(self.importance, self.segment, self.start)
        place = places(order, self.segment, self.start).to(self.mask.dtype)
        self.rank = place / self.spread(self.size.to(self.mask.dtype))
        first, last = order[self.start], order[self.start + self.size - 1]
        self.differs = self.importance[last] > self.importance[first]

    @property
    def ordered(self) -> Tensor:
        """(U,) bool: units whose masks may differ from one: a model is as it was until a search takes a step."""
        return self.differs | (self.single & (self.steps > 0))

    def masks_of(self, trained: Tensor) -> Tensor:
        """(N,) masks, differentiable in the trained numbers (eq. 3); hardened units show what they keep."""
        lam = self.spread(self.temperature.to(trained.dtype))
        return self.shown(soft_mask(self.rank + self.shift, self.spread(trained), lam), self.ordered)

    def shown(self, masks: Tensor, ordered: Tensor | None = None) -> Tensor:
        """(N,) ``masks``, but ones in units that are not ``ordered`` (U,), and what hardened units keep."""
        if ordered is not None:
            masks = torch.where(self.spread(ordered), masks, torch.ones_like(masks))
        return torch.where(self.spread(self.hardened), self.keep.to(masks.dtype), masks)

    def soft(self) -> Tensor:
        """(N,) masks differentiable in what is trained, without what is drawn; for losses on the structure itself."""
        return self.masks_of(self.trained)

    def soft_keep(self) -> Tensor:
        """(N,) the present hard structure forward, :meth:`soft` backward; float64."""
        soft = self.soft().double()
        return self.hard_keep().double() + (soft - soft.detach())

    def soft_counts(self) -> Tensor:
        """(U,) kept elements: the hard count forward, ``-N`` per unit of ratio backward; float64."""
        hard = self.hard_counts().double()
        soft = (1 - self.ratio.double()) * self.size
        return torch.where(self.hardened, hard, hard + (soft - soft.detach()))

    @torch.no_grad()
    def hard_counts(self, ratio: Tensor | None = None) -> Tensor:
        """(U,) long: ``round((1 - a) N)`` within bounds and on the grid, or what a hardened unit keeps."""
        free = (1 - (self.ratio if ratio is None else ratio).double()) * self.size
        if self.grid.plain:
            free = torch.minimum(torch.maximum(torch.round(free).long(), self.min_keep), self.size)
        else:
            free = self.grid.nearest(free)
        kept = torch.zeros_like(self.size).index_add(0, self.segment, self.keep.long())
        return torch.where(self.hardened, kept, free)

    @torch.no_grad()
    def hard_keep(self, counts: Tensor | None = None) -> Tensor:
        """(N,) bool: the most important ``counts`` elements of each unit; hardened units as they are."""
        counts = self.hard_counts() if counts is None else counts
        # Rank is r/N; comparing integers avoids a float on the threshold.
        rank = torch.round(self.rank.double() * self.spread(self.size)).long()
        free = rank >= self.spread(self.size - counts)
        return torch.where(self.spread(self.hardened), self.keep, free)

    def showing(self) -> Tensor:
        """(N,) bool: the elements that the present masks let through, for modules that can't take part of one."""
        return self.hard_keep()

    @torch.no_grad()
    def harden(self, unit: int, keep: Tensor) -> None:
        """Show ``keep`` (size,) bool as the mask of a unit from now on."""
        start = int(self.start[unit])
        self.keep[start : start + self.sizes[unit]] = keep.to(self.keep.device)
        self.hardened[unit] = True
        self.refresh()

    @torch.no_grad()
    def harden_all(self, keep: Tensor) -> None:
        """Show ``keep`` (N,) bool as the mask of all units from now on."""
        self.keep.copy_(keep)
        self.hardened.fill_(True)
        self.refresh()

    # -- learning
    @torch.no_grad()
    def take_grad(self) -> Tensor:
        """(N,) ``d(loss)/d(mask)`` collected since the last call; the collector is cleared."""
        return self.leaves.collect()

    def still(self) -> Tensor:
        """Bool that broadcasts to what is trained: the numbers of hardened units, which don't move."""
        return self.hardened

    @torch.no_grad()
    def chain(self, grad: Tensor) -> Tensor:
        """From ``d(loss)/d(mask)`` (N,) to what is trained: ``sum_i g_i * (-lambda) m_i (1 - m_i)`` of each unit."""
        slope = -self.spread(self.temperature.to(grad.dtype)) * self.mask * (1 - self.mask)
        slope = torch.where(self.spread(self.hardened), torch.zeros_like(slope), slope)
        return torch.zeros_like(self.ratio, requires_grad=False).index_add(0, self.segment, slope * grad)

    @torch.no_grad()
    def update_importance(self, grad: Tensor, score: str = 'taylor', decay: float = 0.99) -> None:
        """Moving average of the score (eq. 4); ``decay`` 0 keeps only the newest."""
        self.importance.mul_(decay).add_(SCORES[score](self.mask, grad), alpha=1 - decay)

    @torch.no_grad()
    def clamp(self) -> None:
        """What is trained back into its bounds: ratios into ``[1 - k_max/N, 1 - k_min/N]``, equal in a tie."""
        size = self.size.to(self.ratio.dtype)
        least, most = (1 - bound.to(self.ratio.dtype) / size for bound in (self.grid.high, self.min_keep))
        self.ratio.copy_(self.grid.tied(torch.minimum(torch.maximum(self.ratio, least), most)))
