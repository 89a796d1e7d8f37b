"""What of a detector a search traces."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def tensor_forward(model: Any, inputs: Tensor) -> Any:
    """The ``'tensor'`` mode of any host model; of two-stage detectors also what that mode would need boxes for.

    There the heads of the second stage see crops of the finest level in place of pooled proposals, as many as the
    test configuration keeps for an image, so that their layers are searched and counted like the others. Pooling
    works on each channel by itself.

    Args:
        inputs: (B, 3, H, W).
    """
    if not (hasattr(model, 'roi_head') and hasattr(model, 'rpn_head')):
        return model(inputs, mode='tensor')
    features = model.extract_feat(inputs)
    outputs = [model.rpn_head(features)]
    roi = model.roi_head
    if not hasattr(roi.bbox_head, 'roi_feat_size'):
        raise ValueError(f'{type(roi).__name__} with {type(roi.bbox_head).__name__} cannot be traced yet')
    outputs.append(roi.bbox_head(_crops(roi.bbox_roi_extractor, features[0], model.test_cfg.rpn.max_per_img)))
    if getattr(roi, 'mask_head', None) is not None:
        extractor = getattr(roi, 'mask_roi_extractor', None) or roi.bbox_roi_extractor
        outputs.append(roi.mask_head(_crops(extractor, features[0], model.test_cfg.rcnn.max_per_img)))
    return outputs


def _crops(extractor: nn.Module, level: Tensor, count: int) -> Tensor:
    """(B * count, C, height, width) from the corner of (B, C, H, W), as if the extractor had pooled them.

    Its own forward runs a compiled operator that knows no fake tensors. It is stood in for, not left out, because it
    stores the number of channels that it allocates.
    """

    height, width = extractor.roi_layers[0].output_size  # type: ignore[union-attr,index]

    def crop(level: Tensor) -> Tensor:
        part = level[:, None, :, :height, :width].expand(-1, count, -1, -1, -1)
        return part.reshape(-1, extractor.out_channels, height, width)

    if level.shape[-2] < height or level.shape[-1] < width:
        raise ValueError(f'input_shape is too small: the finest level has {tuple(level.shape[-2:])} positions')
    extractor.__dict__['forward'] = crop
    try:
        return extractor(level)
    finally:
        del extractor.__dict__['forward']
