"""What a resource is told about a model, and the resources of a space."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..mutables import Ownership
from ..registry import RESOURCES, build, nearest
from ..topk import TopkBank
from ..tracing import Trace
from .amounts import UNITS
from .products import Term
from .resource import Resource
from .terms import operator_terms, parameter_terms, state_terms


@dataclass
class ResourceContext:
    """A searchable model as resources see it.

    Attributes:
        trace: what the forward said: operators with their costs, and their calls.
        ownership: which element of which unit every traced position belongs to.
        batch: samples of the example input, which the traced shapes are for.
        bank: ratios and masks of the units.
        part: name or pattern of modules; operators and parameters of others are not told.
    """

    trace: Trace
    ownership: Ownership
    model: nn.Module
    batch: int
    bank: TopkBank
    part: str | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ResourceContext:
        # A trace is fixed; a copy of a space shares it.
        model, bank = copy.deepcopy(self.model, memo), copy.deepcopy(self.bank, memo)
        return dataclasses.replace(self, model=model, bank=bank)

    def operators(self) -> list[tuple[str, list[Term]]]:
        """(module, MACs of one sample as terms) of every product or convolution of the forward, in its order."""
        found = operator_terms(self.trace, self.ownership, self.batch)
        return [(name, terms) for name, terms in found if self.has(name)]

    def parameters(self) -> list[tuple[str, list[Term]]]:
        """(name, size as terms) of every parameter."""
        found = parameter_terms(self.trace, self.ownership, self.model)
        return [(name, terms) for name, terms in found if self.has(name)]

    def buffers(self) -> list[tuple[str, list[Term]]]:
        """(name, size as terms) of every buffer."""
        found = state_terms(self.trace, self.ownership, self.model.named_buffers())
        return [(name, terms) for name, terms in found if self.has(name)]

    def has(self, name: str) -> bool:
        """Whether a module or parameter is of the part, under any of its names, or lies in a module that is."""
        if self.part is None:
            return True
        names = next((names for names in self.trace.names.values() if name in names), (name,))
        return any(fnmatch.fnmatchcase(path, self.part) for other in names for path in _and_above(other))

    def of_part(self, part: str) -> ResourceContext:
        """What resources of one part are told.

        Raises:
            ValueError: no module is called so.
        """
        inside = dataclasses.replace(self, part=part)
        names = [name for name, _ in self.model.named_modules(remove_duplicate=False) if name]
        if not any(inside.has(name) for name in names):
            raise ValueError(f'no module of the model is called {part!r}, which a target is for;{nearest(part, names)}')
        return inside


def _and_above(path: str) -> Iterable[str]:
    """A module's path and those of the modules around it, the model's own aside."""
    pieces = path.split('.')
    return ('.'.join(pieces[:k]) for k in range(len(pieces), 0, -1))


class Resources(dict[str, Resource]):
    """Resources of a space by name; :meth:`add` builds one more."""

    def __init__(self, context: ResourceContext) -> None:
        super().__init__()
        self.context = context
        self.specs: dict[str, Any] = {}

    def add(self, name: str, spec: Any = None) -> Resource:
        """Build a resource called ``name``: a registered name, or ``dict(type=..., option=...)``, where ``type`` may be
        left out if ``name`` is registered itself. Without ``spec``, ``PART/RESOURCE`` is a resource of the modules that
        are called so, or lie in one that is; a pattern may name them.

        Raises:
            ValueError: an unknown resource or option, a class that is no :class:`Resource`, or a part that there isn't
                or that has nothing of the resource.
        """
        part, _, whole = name.rpartition('/')
        if spec is None and part:
            resource = self._of_part(part, whole)
        else:
            self.specs[name] = name if spec is None else {'type': name, **spec} if isinstance(spec, Mapping) else spec
            resource = build(RESOURCES, self.specs[name], self.context, what='resource')
        if not isinstance(resource, Resource):
            raise ValueError(f'resource {name!r}: {type(resource).__name__} is no subclass of Resource')
        if resource.unit not in UNITS:
            raise ValueError(f'resource {name!r} has unit={resource.unit!r}; units are: {", ".join(map(repr, UNITS))}')
        _fix(resource)
        self[name] = resource.to(self.context.bank.ratio.device)
        return resource

    def _of_part(self, part: str, name: str) -> Any:
        if name not in self:
            self.add(name)
        if not self[name].by_parts:
            raise ValueError(
                f'resource {name!r} is of the whole model: {type(self[name]).__name__} can not be counted for '
                f'{part!r} alone. A class that is made of operators() and parameters() says by_parts = True'
            )
        resource = build(RESOURCES, self.specs[name], self.context.of_part(part), what='resource')
        bank = self.context.bank
        if not resource.to(bank.ratio.device).count(bank.keep | True, bank):
            raise ValueError(f'the modules {part!r} have nothing of {name}')
        return resource


def _fix(resource: Resource) -> None:
    """Make every tensor of a resource a constant: no parameter to train, nothing in a checkpoint, float64."""
    for module in resource.modules():
        tensors = {**module._parameters, **module._buffers}
        module._parameters.clear()
        for name, x in tensors.items():
            if x is not None:
                fixed = x.detach().double() if x.is_floating_point() else x.detach()
                module.register_buffer(name, fixed, persistent=False)


def build_resources(
    options: Mapping[str, Any] | None,
    trace: Trace,
    ownership: Ownership,
    model: nn.Module,
    batch: int,
    bank: TopkBank,
) -> Resources:
    """MACs, parameters, and what ``options`` names: ``dict(latency=dict(type='Latency', table='cpu.json'))``.

    Raises:
        ValueError: see :meth:`Resources.add`; or ``options`` gives ``macs`` or ``params``, which mean one thing always.
    """
    taken = {'macs', 'params'} & set(options or ())
    if taken:
        raise ValueError(f'resource {sorted(taken)[0]!r} is there always and takes no options; choose another name')
    resources = Resources(ResourceContext(trace, ownership, model, batch, bank))
    for name, spec in {'macs': None, 'params': None, **dict(options or {})}.items():
        resources.add(name, spec)
    return resources
