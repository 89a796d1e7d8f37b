"""How well a language model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class Perplexity(BaseMetric):
    """``exp`` of the mean cross entropy of all predicted tokens, beside how many these are and what they are of.

    Length and stride of the rows, and digests of texts and tokenizer, are the data set's
    (:class:`dms_mm.datasets.PackedText`) and stand in the result: perplexities of other protocols are no comparison.
    """

    default_prefix = 'text'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results += [(sample['nll'], sample['tokens']) for sample in data_samples]

    def compute_metrics(self, results: list[tuple[float, int]]) -> dict[str, Any]:
        tokens = sum(n for _, n in results)
        mean = math.fsum(nll for nll, _ in results) / max(tokens, 1)
        found: dict[str, Any] = dict(perplexity=math.exp(min(mean, 700.0)), tokens=tokens)
        protocol = (self.dataset_meta or {}).get('protocol')
        if protocol:
            found['protocol'] = ', '.join(f'{name} {value}' for name, value in protocol.items())
        return found
