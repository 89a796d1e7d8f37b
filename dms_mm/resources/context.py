"""What a resource is told about a model, and the resources of a space."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..mutables import Ownership
from ..registry import RESOURCES, build
from ..topk import TopkBank
from ..tracing import Trace
from .products import Term
from .resource import Resource
from .terms import activation_terms, operator_terms, parameter_terms


@dataclass
class ResourceContext:
    """A searchable model as resources see it.

    Attributes:
        trace: what the forward said: operators with their costs, and their calls.
        ownership: which element of which unit every traced position belongs to.
        batch: samples of the example input, which the traced shapes are for.
        bank: ratios and masks of the units.
    """

    trace: Trace
    ownership: Ownership
    model: nn.Module
    batch: int
    bank: TopkBank

    def __deepcopy__(self, memo: dict[int, Any]) -> ResourceContext:
        # A trace is fixed; a copy of a space shares it.
        model, bank = copy.deepcopy(self.model, memo), copy.deepcopy(self.bank, memo)
        return ResourceContext(self.trace, self.ownership, model, self.batch, bank)

    def operators(self) -> list[tuple[str, list[Term]]]:
        """(module, MACs of one sample as terms) of every product or convolution of the forward, in its order."""
        return operator_terms(self.trace, self.ownership, self.batch)

    def parameters(self) -> list[tuple[str, list[Term]]]:
        """(name, size as terms) of every parameter."""
        return parameter_terms(self.trace, self.ownership, self.model)

    def activations(self) -> list[tuple[str, list[Term]]]:
        """(module, numbers that it gives for one sample as terms) of every operator of the eval forward."""
        return activation_terms(self.trace, self.ownership, self.batch)


class Resources(dict[str, Resource]):
    """Resources of a space by name; :meth:`add` builds one more."""

    def __init__(self, context: ResourceContext) -> None:
        super().__init__()
        self.context = context

    def add(self, name: str, spec: Any = None) -> Resource:
        """Build a resource called ``name``: a registered name, or ``dict(type=..., option=...)``, where ``type`` may be
        left out if ``name`` is registered itself.

        Raises:
            ValueError: an unknown resource or option, or a class that is no :class:`Resource`.
        """
        if spec is None:
            spec = name
        elif isinstance(spec, Mapping):
            spec = {'type': name, **spec}
        resource = build(RESOURCES, spec, self.context, what='resource')
        if not isinstance(resource, Resource):
            raise ValueError(f'resource {name!r}: {type(resource).__name__} is no subclass of Resource')
        self[name] = resource.requires_grad_(False).to(self.context.bank.ratio.device)
        return resource


def build_resources(
    options: Mapping[str, Any] | None,
    trace: Trace,
    ownership: Ownership,
    model: nn.Module,
    batch: int,
    bank: TopkBank,
) -> Resources:
    """MACs, parameters, and what ``options`` names: ``dict(latency=dict(type='Latency', table='cpu.json'))``."""
    resources = Resources(ResourceContext(trace, ownership, model, batch, bank))
    for name, spec in {'macs': None, 'params': None, **(options or {})}.items():
        resources.add(name, spec)
    return resources
