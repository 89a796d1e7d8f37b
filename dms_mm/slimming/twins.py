"""Copies of one model, with masks and slim, that run on real numbers (DESIGN 4.1, 4.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import FlopCounterMode

from ..mutables import build_selector
from ..mutators.install import install
from ..resources import build_resources
from ..topk import TopkBank
from ..tracing import IntArray, call_forward, first_batch, forget, plain_outputs
from ..tracing.decisions import Results
from ..tracing.setting import no_fastpath
from .chance import without_chance
from .cut import plan_structure
from .followed import choices
from .plan import Plan
from .skeleton import duplicate
from .slim import fitting_slim
from .trials import with_all_experts

Forward = Callable[..., Any]
NEAREST = 0.501  # counts are whole numbers; the share of a sample in what is done once for a batch need not be one


def _grouped_flops(x: Any, w: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Every row meets one matrix."""
    return 2 * int(np.prod(x)) * int(w[-1])


GROUPED = {torch.ops.aten._grouped_mm: _grouped_flops}


@contextlib.contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Torch's counter, and no kernels inside that it doesn't know."""
    with no_fastpath(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=GROUPED) as counter:
        yield counter


def outputs_of(model: nn.Module, inputs: Any, forward_fn: Forward | None = None) -> list[Tensor]:
    """Floating-point outputs of one forward in the model's present mode, float64."""
    with torch.no_grad():
        leaves = tree_flatten(plain_outputs(call_forward(model, inputs, forward_fn)))[0]
    return [x.double() for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def numbers_of(model: nn.Module, inputs: Any, forward_fn: Forward | None = None) -> list[Tensor]:
    """The same without chance."""
    with without_chance():
        return outputs_of(model, inputs, forward_fn)


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference over the largest magnitude of each output; infinite for other shapes or other NaNs."""
    if len(a) != len(b):
        return float('inf')
    worst = 0.0
    for x, y in zip(a, b):
        finite = torch.isfinite(x)
        if x.shape != y.shape or not torch.equal(finite, torch.isfinite(y)):
            return float('inf')
        x, y = x[finite], y[finite]
        worst = max(worst, float((x - y).abs().max() / x.abs().max().clamp_min(1e-300)) if x.numel() else 0.0)
    return worst


def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Weights and norm statistics without the zeros and ones that hide mistakes, of the magnitude that they have."""
    with torch.no_grad():
        for p in model.parameters():
            if not p.is_floating_point() or not p.numel():
                continue
            factor = torch.rand(p.shape, generator=generator, dtype=torch.float64) + 0.5
            if float(p.detach().abs().max()) < 1e-2:
                # What starts at nothing: biases, layer scales, last layers of branches.
                fan = max(1, p[0].numel()) if p.ndim > 1 else 1
                sign = torch.sign(torch.randn(p.shape, generator=generator))
                p.copy_((factor * sign / fan**0.5).to(p))
            else:
                p.mul_(factor.to(p))
        for module in model.modules():
            mean, var = getattr(module, 'running_mean', None), getattr(module, 'running_var', None)
            if isinstance(mean, Tensor) and isinstance(var, Tensor):
                mean.copy_(torch.rand(mean.shape, generator=generator) - 0.5)
                var.copy_(torch.rand(var.shape, generator=generator) + 0.5)


def random_copy(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of a traced model with other weights, on the device of the model, without what forwards left in it."""
    copied = forget(duplicate(model), plan.trace.caches.values())
    randomise(copied, torch.Generator().manual_seed(0))
    return copied


class Twins:
    """A copy of a model, and what its plan makes of it.

    Args:
        model: the copy itself; its weights want no gradients from now on.
        inputs: as for ``make_searchable``; floating-point tensors of one value alone become random.
        as_traced: they have the shapes of those that were traced, so that MACs can be compared.
        bank: its masks; ones of its own if left out.

    Attributes:
        model: the copy, in float64 where it runs in that.
        bound: relative difference that rounding explains.
        plain: the outputs of the whole copy in eval mode.
        trains: whether it was traced in training mode, and has not failed in it.
        flops: floating-point operations of the whole copy in eval mode.

    Raises:
        Exception: whatever the model raises on real numbers in its own precision.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        inputs: Any,
        forward_fn: Forward | None,
        as_traced: bool = True,
        bank: TopkBank | None = None,
    ) -> None:
        self.model, self.plan, self.forward_fn, self.as_traced = model, plan, forward_fn, as_traced
        generator = torch.Generator().manual_seed(1)
        self.device = next(model.parameters()).device
        # Torch's counter fails where a module takes a view of a parameter that wants gradients while none are kept.
        self.model.requires_grad_(False)
        self.inputs = _cast(inputs, self.device, torch.float64, generator)
        try:
            self.model.double()
            self.bound = 1e-5 if plan.single else 1e-8
            self.plain, self.flops = self._plain()
        except Exception:
            # The model makes tensors of a type of its own: what can be seen is limited by float32.
            self.model.float()
            self.inputs, self.bound = _cast(inputs, self.device, torch.float32, generator), 1e-3
            self.plain, self.flops = self._plain()
        self.trains = len(plan.trace.calls) > 1
        self.bank = (bank or build_selector('topk', plan.units)).to(self.device)
        if self.bound < 1e-3:
            self.bank.double()
        self.batch = first_batch(self.inputs)
        self.counters = build_resources(None, plan.trace, plan.ownership, self.model, self.batch, self.bank)

    def _plain(self) -> tuple[list[Tensor], int]:
        with counted() as counter:
            outputs = self.run(self._copy(), False)
        return outputs, counter.get_total_flops()

    def _copy(self) -> nn.Module:
        """A copy that has the same parameters and its own buffers."""
        return duplicate(self.model, {id(p): p for p in self.model.parameters()})

    def run(self, model: nn.Module, training: bool) -> list[Tensor]:
        """Outputs of one forward in a mode."""
        model.train(training)  # which gives nothing in many a class of its own
        return numbers_of(model, self.inputs, self.forward_fn)

    def masked(self, keep: IntArray) -> nn.Module:
        """The copy with masks: what is not in ``keep`` (N,) is masked."""
        self.bank.harden_all(torch.from_numpy(keep).to(self.device))
        model = self._copy()
        install(model, self.plan.trace, self.plan.ownership, self.plan.units, self.bank)
        return model

    def slim(self, keep: IntArray) -> nn.Module:
        """The copy cut down to ``keep`` (N,): :func:`build_slim` without its words on layers that nobody will train."""
        structure = plan_structure(self.plan, keep, self.model)
        structure.check()
        return fitting_slim(self._copy(), structure)

    def compare(self, keep: IntArray, training: bool, counts: bool) -> str:
        """What is wrong with the slim model that keeps ``keep`` (N,), with its ``counts`` too, or nothing."""
        try:
            want, noted = self.of_masked(keep, training)
        except Exception as error:
            if training and not self._runs_in_training():
                self.trains = False
                return ''
            return f'the masked model fails: {type(error).__name__}: {error}'
        try:
            slim = self.slim(keep)
            with counted() if counts else contextlib.nullcontext() as counter:
                have = self.of_slim(slim, training, noted)
        except Exception as error:
            return f'the slim model fails: {type(error).__name__}: {error}'
        apart = difference(want, have)
        if apart > self.bound:
            return f'masked and slim model differ by {apart:.1e}'
        return '' if counter is None else self._miscounted(slim, counter.get_total_flops(), keep)

    def of_masked(self, keep: IntArray, training: bool) -> tuple[list[Tensor], Results | None]:
        """Outputs of the masked model, and what it chose where data decide."""
        masked = self.masked(keep)
        if not np.array_equal(keep, with_all_experts(self.plan.units, keep)):
            # Without some of the experts the others have other numbers.
            return self.run(masked, training), None
        with self._choices(masked, None) as noted:
            return self.run(masked, training), noted

    def of_slim(self, slim: nn.Module, training: bool, noted: Results | None) -> list[Tensor]:
        """Outputs of a slim model that follows the masked one where data decide."""
        with self._choices(slim, noted):
            return self.run(slim, training)

    def _choices(self, model: nn.Module, noted: Results | None) -> Any:
        return choices(model, noted, 10 * self.bound) if self.plan.trace.decisions else contextlib.nullcontext()

    def _runs_in_training(self) -> bool:
        try:
            self.run(self._copy(), True)
        except Exception:
            return False
        return True

    def miscounted_whole(self) -> str:
        """What is wrong with the counts of the whole model, or nothing."""
        whole = np.ones(len(self.plan.ownership.units), dtype=bool)
        return self._miscounted(self.model, self.flops, whole)

    def _miscounted(self, model: nn.Module, flops: int, keep: IntArray) -> str:
        kept = torch.from_numpy(keep).to(self.device)
        counted = {name: counter.count(kept, self.bank) for name, counter in self.counters.items()}
        real = {'params': float(sum(p.numel() for p in model.parameters()))}
        if self.as_traced:
            real['macs'] = flops / 2 / self.batch
        for name, count in counted.items():
            if name == 'macs' and self.plan.trace.decisions:
                continue  # what data decide goes another way on random weights
            if abs(count - real.get(name, count)) > NEAREST:
                return f'{name} are counted as {count:,} and are {real[name]:,.10g}'
        return ''


def random_inputs(inputs: Any, model: nn.Module) -> Any:
    """The inputs on the device of a model and in the precision of its weights; those of one value alone random."""
    weights = [p for p in model.parameters() if p.is_floating_point()]
    dtype = weights[0].dtype if weights else torch.float32
    return _cast(inputs, weights[0].device if weights else torch.device('cpu'), dtype, torch.Generator().manual_seed(1))


def _cast(inputs: Any, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Any:
    def cast(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x.to(device) if isinstance(x, Tensor) else x
        if not x.numel() or bool((x == x.reshape(-1)[0]).all()):
            return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(device, dtype)
        return x.detach().to(device, dtype)

    return tree_map(cast, inputs)
