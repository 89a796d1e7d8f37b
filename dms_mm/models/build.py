"""Host models from their configs and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import nn

from ..compat import prepare_mmpretrain
from ..registry import MODELS
from .checkpoint import read_checkpoint


def host_scope(architecture: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The scope in which a host library finds its own parts by plain names, wherever the config was inherited from."""
    prepare_mmpretrain()
    kind = architecture.get('type')
    scope = kind.rpartition('.')[0] if isinstance(kind, str) else ''
    scope = scope or architecture.get('_scope_')
    return DefaultScope.overwrite_default_scope(None if scope == 'dms_mm' else scope)


def build_architecture(architecture: dict, data_preprocessor: Any = None) -> BaseModel:
    """A host library's model from its config, with the runner's data preprocessor where the config has none."""
    architecture = dict(architecture)
    if data_preprocessor is not None:
        architecture.setdefault('data_preprocessor', data_preprocessor)
    with host_scope(architecture):
        architecture.pop('_scope_', None)
        model = MODELS.build(architecture)
    if not isinstance(model, BaseModel):
        raise TypeError(f'architecture must be an MMEngine BaseModel, got {type(model).__name__}')
    return model


def load_pretrained(model: nn.Module, path: str) -> None:
    """Load a checkpoint strictly, on CPU, without unpickling anything but tensors.

    Raises:
        ValueError: unreadable or truncated file, or keys that don't fit; names the file and the first key.
    """
    state = read_checkpoint(path)
    state = state.get('state_dict', state)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        key = (list(missing) + list(unexpected))[0]
        kind = 'lacks' if missing else 'has the unknown'
        raise ValueError(f'checkpoint {path} does not fit {type(model).__name__}: it {kind} key {key!r}')
