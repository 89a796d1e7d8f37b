"""The DMS algorithm as an MMEngine model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from torch import nn

from ..models.build import build_architecture, load_pretrained
from ..models.detection import tensor_forward
from ..models.distill import Distillation
from ..models.example import example_of
from ..mutators.stores import raw_parameters
from ..registry import MODELS, check_options, options_of, plain, unknown
from ..space import SearchSpace, make_searchable
from .budget import with_parts
from .modes import keep_still
from .opening import open_branches
from .search import Search

PIPELINES = ('np', 'p', 'p-')


@MODELS.register_module()
class DMS(BaseModel):
    """Searches any MMPretrain, MMDetection or MMYOLO model while a runner trains it.

    The losses and predictions are the architecture's own. The structure is stepped by :class:`dms_mm.engine.DMSHook`,
    which also writes ``structure.json`` at the end. ``state_dict`` has the architecture's keys under
    ``architecture.`` and the structure's under ``structure.``.

    Args:
        architecture: config of the supernet.
        target, parts: see :class:`Search`.
        input_shape: shape of one sample, for example (3, 224, 224), or (128,) of a text; counts refer to it.
        pipeline: ``'np'`` trains weights from scratch, ``'p'`` from ``pretrained``, ``'p-'`` keeps the weights of
            ``pretrained`` and learns the structure alone (table 1), in eval mode but for batch norms.
        pretrained: checkpoint of the supernet, for ``'p'`` and ``'p-'``.
        space: options of :func:`make_searchable`, resources and a selector of one's own among them.
        search: options of :class:`Search`.
        open_branches: before a search from scratch, open residual branches that start at nothing, so that their inner
            widths get gradients from the first step (:func:`dms_mm.algorithms.opening.open_branches`).
        distillation: a teacher beside the labels while the search trains weights and structure: arguments of
            :class:`dms_mm.models.distill.Distillation`.
    """

    def __init__(
        self,
        architecture: dict,
        target: Mapping[str, Any],
        input_shape: Sequence[int] = (3, 224, 224),
        pipeline: str = 'np',
        pretrained: str | None = None,
        space: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        open_branches: bool = True,
        distillation: Mapping[str, Any] | None = None,
        parts: Mapping[str, Any] | None = None,
        data_preprocessor: Any = None,
        **unknown_options: Any,
    ) -> None:
        check_options('DMS', unknown_options, options_of(DMS))
        if pipeline not in PIPELINES:
            raise unknown('pipeline', pipeline, PIPELINES)
        if (pretrained is None) == (pipeline != 'np'):
            raise ValueError(f'pipeline {pipeline!r} {"needs" if pipeline != "np" else "takes no"} `pretrained`')
        space, search = space_options(space), _options('search', search)
        if distillation is not None:
            distillation = _options('distillation', distillation)
            check_options('`distillation`', distillation, options_of(Distillation))
        model = build_architecture(architecture, data_preprocessor)
        super().__init__(data_preprocessor=model.data_preprocessor)
        self.architecture = model
        self.pipeline, self.pretrained = pipeline, pretrained
        if pretrained is not None:
            load_pretrained(model, pretrained)
        self.example = example_of(model, input_shape)
        self.open_branches = open_branches
        self.__dict__['space'] = make_searchable(model, self.example, forward_fn=tensor_forward, **space)
        self.structure = self.space.bank
        # Wrong targets and options fail here, before any training.
        self.target, self.search_options = with_parts(plain(target), plain(parts or {})), search
        self.start_search(1)
        # They move with the model; parts have dots in their names.
        self.counters = nn.ModuleDict({n.replace('.', ':'): x for n, x in self.space.counters.items()})
        if distillation is not None:
            # After the space is made: the hooks belong to this model, not to slim copies of it.
            Distillation(**distillation).attach(model)
        if pipeline == 'p-':
            for p in model.parameters():
                p.requires_grad_(False)
            # Optimizers and data-parallel wrappers refuse a model without any trainable parameter.
            self.idle = nn.Parameter(torch.zeros(()))

    space: SearchSpace

    def start_search(self, total_steps: int, epochs: int | None = None) -> Search:
        """Make the search for a run of ``total_steps``; what the bank remembers of an earlier one goes on.

        With ``epochs`` its schedule goes by so many equal parts.
        """
        by = {} if epochs is None else dict(epochs=epochs)
        self.__dict__['search'] = Search(self.space, self.target, total_steps, **{**self.search_options, **by})
        return self.search

    search: Search

    def train(self, mode: bool = True) -> DMS:
        """Training or eval mode; with kept weights (``'p-'``) only batch norms train, and nothing is dropped."""
        super().train(mode)
        if mode and self.pipeline == 'p-':
            keep_still(self.architecture)
        return self

    def init_weights(self) -> None:
        if self.pretrained is not None:
            return
        with raw_parameters():  # written in place, through the attributes of layers
            self.architecture.init_weights()
        opened = open_branches(self.space, self.example, tensor_forward) if self.open_branches else []
        if opened:
            MMLogger.get_current_instance().info(
                f'opened {len(opened)} residual branches that start at nothing, for the time of the search: '
                + ', '.join(opened)
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> DMS:
        """Weights of its own, and the structure that is searched: what an average of the weights needs."""
        for shared in (self.structure, self.search, self.space.plan, *self.space.counters.values()):
            memo[id(shared)] = shared
        twin: DMS = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__dict__, memo))
        return twin

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """The architecture's forward; in ``'loss'`` mode with ``loss_resource`` among the losses."""
        out = self.architecture(inputs, data_samples, mode=mode)
        if mode == 'loss':
            out = dict(out)
            # Named without "loss", so that it is logged and not added to the sum.
            out['task'] = sum(_total(v) for k, v in out.items() if 'loss' in k)
            # Its gradient goes to the ratios by Search.step, apart from the weights'.
            resource = self.search.resource_loss().detach()
            out['loss_resource'] = resource + 0 * self.idle if self.pipeline == 'p-' else resource
        return out


def space_options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of :func:`make_searchable` as a config gives them.

    Raises:
        ValueError: an unknown one; names the nearest that is valid.
    """
    space = _options('space', given)
    check_options('`space`', space, options_of(make_searchable, ('model', 'example_inputs', 'forward_fn')))
    return space


def _options(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f'`{name}` must be dict(OPTION=value), not {given!r}')
    return dict(plain(given or {}))


def _total(value: Any) -> torch.Tensor:
    """A loss entry, which may be a list, as one detached number."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return torch.stack([v.detach().mean() for v in values]).sum()
