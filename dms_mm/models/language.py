"""Causal language models of transformers as models that a runner trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..registry import MODELS, plain

IGNORED = -100  # a label that no loss is taken of, as in transformers


@MODELS.register_module()
class CausalLM(BaseModel):
    """Any causal language model of transformers; its keys are transformers' own under ``language_model.``.

    Samples are token numbers and labels of equal length, see :class:`dms_mm.datasets.PackedText`: position ``t`` is
    judged by label ``t + 1``.

    Args:
        config: options of a configuration, ``model_type`` among them, for random weights.
        path: local folder of a model, in the place of ``config``; nothing is downloaded.
        dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``, of the weights.
        attention: implementation of the attention: ``'eager'``, ``'sdpa'``, ...; transformers' choice without it.
        gradient_checkpointing: activations of layers are computed again in backward instead of kept.

    Raises:
        ValueError: both ``config`` and ``path`` are given, or none, or a dtype that is none.
        ImportError: transformers is not installed.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        path: str | None = None,
        dtype: str = 'float32',
        attention: str | None = None,
        gradient_checkpointing: bool = False,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='mmengine.BaseDataPreprocessor'), init_cfg)
        if (config is None) == (path is None):
            raise ValueError('CausalLM takes `config`, options of a configuration of transformers, or `path`, a folder')
        try:
            from transformers import AutoConfig, AutoModelForCausalLM
        except ImportError as error:
            raise ImportError('language models need transformers: pip install -r requirements/llm.txt') from error
        number = getattr(torch, str(dtype), None)
        if not isinstance(number, torch.dtype) or not number.is_floating_point:
            raise ValueError(f'dtype={dtype!r} must be float32, bfloat16 or float16')
        options: dict[str, Any] = {'dtype': number}
        if attention is not None:
            options['attn_implementation'] = attention
        if path is not None:
            from .. import hf  # noqa: F401  (folders of slim models, too)

            self.language_model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, **options)
        else:
            settings = dict(plain(config))
            if 'model_type' not in settings:
                raise ValueError('`config` of CausalLM has no `model_type`; for example "llama"')
            made = AutoConfig.for_model(settings.pop('model_type'), **settings)
            self.language_model = AutoModelForCausalLM.from_config(made, **options)
        if gradient_checkpointing:
            self.language_model.gradient_checkpointing_enable(dict(use_reentrant=False))

    def init_weights(self) -> None:
        """Weights are drawn, or read, where the model is built."""

    def example(self, shape: Sequence[int]) -> Tensor:
        """(2, length) int64: different tokens at every position."""
        (length,) = shape
        return torch.arange(2 * length).view(2, length) % self.language_model.config.vocab_size

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """
        Args:
            inputs: (B, L) int64 token numbers, or a list of (L,).
            data_samples: labels of the same shape, -100 where none is; by default the tokens themselves.
            mode: ``'tensor'`` gives logits (B, L, V); ``'loss'`` a dict with the mean cross entropy in nats;
                ``'predict'`` a list of dicts with the sum over a sample, ``nll``, and the ``tokens`` that it is of.
        """
        tokens = _stacked(inputs)
        logits = self.language_model(input_ids=tokens, use_cache=False).logits
        if mode == 'tensor':
            return logits
        labels = tokens if data_samples is None else _stacked(data_samples)
        # In float32 whatever the weights are: sums over thousands of tokens.
        each = F.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction='none'
        ).view(len(tokens), -1)
        counts = (labels[:, 1:] != IGNORED).sum(1)
        if mode == 'loss':
            # Processes and their rows may have different numbers of labels; each token counts alike.
            number = counts.sum().float()
            all_reduce(number, op='mean')
            return dict(loss=each.sum() / number.clamp_min(1e-6))
        if mode != 'predict':
            raise ValueError(f'mode={mode!r} of CausalLM must be tensor, loss or predict')
        return [dict(nll=float(n), tokens=int(c)) for n, c in zip(each.double().sum(1), counts)]


def _stacked(rows: Any) -> Tensor:
    return torch.stack(list(rows)) if isinstance(rows, (list, tuple)) else rows
