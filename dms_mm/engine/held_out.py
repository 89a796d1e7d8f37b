"""Training images that a search keeps out of training, to compare structures by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DATASETS

from ..algorithms.cost import world_size


class Part:
    """Some samples of a data set, in an order of their own; what samplers ask of a data set is answered, too."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Any:
        return self.dataset[self.indices[place]]

    def get_data_info(self, place: int) -> Any:
        return self.dataset.get_data_info(self.indices[place])

    @property
    def metainfo(self) -> Any:
        return getattr(self.dataset, 'metainfo', {})

    def __deepcopy__(self, memo: Any) -> Part:
        return self  # a runner copies the config that it stands in, images and all


def split(
    runner: Any, dataloader: dict[str, Any], batches: int, seed: int, pipeline: Sequence[Any] | None = None
) -> tuple[dict[str, Any], Any]:
    """A config of a data loader without as many images as fill ``batches`` on every process, and a loader of those.

    Args:
        seed: by which images are chosen.
        pipeline: transforms of the held-out images in place of the training ones.

    Raises:
        ValueError: they are more than half of the data.
    """
    if not isinstance(dataloader, dict):
        raise ValueError('a strategy that holds images out needs the config of a data loader, not a data loader')
    dataset = DATASETS.build(dataloader['dataset'])
    count = batches * dataloader['batch_size'] * world_size()
    if 2 * count > len(dataset):
        raise ValueError(
            f'{batches} held-out batches are {count} of {len(dataset)} samples; take smaller or fewer ones'
        )
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist()
    other = dataset if pipeline is None else DATASETS.build({**dataloader['dataset'], 'pipeline': list(pipeline)})
    left_out = {'batch_sampler', 'num_batch_per_epoch'}
    settings = {k: v for k, v in dataloader.items() if k not in left_out}
    settings.update(dataset=Part(other, order[:count]), sampler=dict(type='DefaultSampler', shuffle=False))
    held_out = runner.build_dataloader(settings, seed=runner.seed)
    return {**dataloader, 'dataset': Part(dataset, sorted(order[count:]))}, held_out
