"""The slim model as a config entry."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel, BaseModule
from torch import nn

from ..registry import MODELS
from ..slimming import Structure, build_slim
from .build import build_architecture, load_pretrained
from .detection import tensor_forward
from .distill import Distillation
from .example import example_of


def SlimModel(  # noqa: N802 (named in configs like the classes beside it)
    architecture: dict,
    structure: Structure | str | os.PathLike[str],
    checkpoint: str | None = None,
    distillation: Mapping[str, Any] | None = None,
    data_preprocessor: Any = None,
    edited: bool = False,
    input_shape: Sequence[int] | None = None,
) -> BaseModel:
    """Build the supernet's architecture, make it slim, and return it: an object of the host library's own class.

    Args:
        architecture: config of the supernet, as in the search.
        structure: structure file of the search.
        checkpoint: slim weights to start from (``slim.pth`` of the search); None trains from scratch.
        distillation: a teacher beside the labels: arguments of :class:`dms_mm.models.distill.Distillation`. The model
            keeps its class and its keys.
        edited: accept a structure file that was changed after it was written; needs ``input_shape``.
        input_shape: of one sample, as in the search; the slim model is tried on it, without data, before it is made.

    Raises:
        StructureError: the file is damaged, changed, or made for another architecture.
    """
    model = build_architecture(architecture, data_preprocessor)
    model = build_slim(model, structure, edited=edited, **trial(model, input_shape))  # type: ignore[assignment]
    if checkpoint is None:
        check_initialisation(model)
    else:
        load_pretrained(model, checkpoint)
        for module in model.modules():
            if isinstance(module, BaseModule):
                # Or the runner would draw new weights over the loaded ones.
                module._is_init = True
    if distillation is not None:
        Distillation(**distillation).attach(model)  # type: ignore[arg-type]
    return model


def trial(model: nn.Module, input_shape: Sequence[int] | None) -> dict[str, Any]:
    """Arguments of :func:`build_slim` that try a host model on a sample's shape; none without a shape."""
    return dict(example_inputs=example_of(model, input_shape), forward_fn=tensor_forward) if input_shape else {}


def check_initialisation(model: Any) -> None:
    """Raises: ValueError where a part of the model would load weights of its full size."""
    for name, module in model.named_modules():
        given = getattr(module, 'init_cfg', None)
        for entry in given if isinstance(given, (list, tuple)) else [given]:
            if isinstance(entry, dict) and entry.get('type') == 'Pretrained':
                raise ValueError(
                    f'init_cfg of {name or "the model"} loads the weights of a full-size network into a slim one; give '
                    '`checkpoint` (slim.pth of the search), or set init_cfg=None to train from scratch'
                )


MODELS.register_module(module=SlimModel)
