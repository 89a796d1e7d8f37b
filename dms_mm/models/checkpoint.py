"""Checkpoints as they lie on disk."""

from __future__ import annotations

from typing import Any

import torch


def read_checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint's tensors, on CPU, with ``weights_only=True``.

    Raises:
        ValueError: missing, truncated or foreign file; names it.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f'checkpoint {path} does not exist') from error
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f'checkpoint {path} is truncated, damaged or no checkpoint: {first}') from error
    if not isinstance(state, dict):
        raise ValueError(f'checkpoint {path} holds a {type(state).__name__}, not a state_dict')
    return state
