"""A fault of the host that slim models run into: narrow 1x1 convolutions with a stride, in channels_last.

The backward pass of oneDNN writes past a workspace there (oneDNN #6035): the process dies or hangs, or gradients of
weights are wrong. docs/faq.md says what was measured; tests/slimming/test_narrow.py tells when a newer torch has
mended it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from .ranges import count_ranges
from .structure import Structure

# The first release of torch that comes with a mended oneDNN; none yet.
MENDED: tuple[int, int] | None = None

# CPU capability -> channels in a block of its kernels; fewer inputs than that are at fault.
BLOCKS = {'AVX2': 8, 'AVX512': 16}


def block(version: str = torch.__version__) -> int:
    """Fewest input channels, above 1, that this process's kernels train rightly; 1 where there is no such fault.

    ``ONEDNN_MAX_CPU_ISA`` in the environment holds oneDNN to the kernels of a lesser CPU.
    """
    numbers = tuple(int(n) for n in version.split('.')[:2])
    if not torch.backends.mkldnn.is_available() or (MENDED is not None and numbers >= MENDED):
        return 1
    least = BLOCKS.get(torch.backends.cpu.get_cpu_capability(), 1)
    limit = os.environ.get('ONEDNN_MAX_CPU_ISA', '').upper()
    if limit in ('SSE41', 'AVX'):
        return 1
    return min(least, BLOCKS['AVX2']) if limit.startswith('AVX2') else least


def narrow_layers(model: nn.Module, structure: Structure | None = None, least: int | None = None) -> dict[str, int]:
    """Layers at fault on CPU -> their input channels, in the order of the model.

    They are dense float32 ``nn.Conv2d`` of kernel 1 with a stride, without padding, of 2 to ``least`` - 1 input
    channels (by default :func:`block`). A single channel is contiguous and channels_last at once, and right.

    Args:
        structure: look at ``model`` as this structure will make it; removed blocks don't count.
    """
    least = block() if least is None else least
    gone = tuple(path + '.' for path in structure.removed) if structure is not None else ()
    found = {}
    for name, module in model.named_modules():
        if not _is_strided(module) or f'{name}.'.startswith(gone):
            continue
        channels = module.in_channels
        kept = structure.slices.get(f'{name}.weight', {}).get('1') if structure is not None else None
        if kept is not None:
            channels = count_ranges(kept, channels)
        if 1 < channels < least:
            found[name] = channels
    return found


def _is_strided(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.groups != 1 or set(module.kernel_size) != {1}:
        return False
    padded = not isinstance(module.padding, str) and any(module.padding)  # 'same' and 'valid' are 0 for a kernel of 1
    if set(module.stride) == {1} or padded:
        return False
    # Not `module.weight`: of a searchable or parametrised layer it would be computed.
    weight = next(module.parameters())
    return weight.device.type == 'cpu' and weight.dtype == torch.float32


def warn_of(narrow: Mapping[str, int]) -> None:
    """One warning that names the layers of :func:`narrow_layers`; Python shows the same text once a process."""
    if not narrow:
        return
    names = ', '.join(f'{name} ({channels} input channels)' for name, channels in list(narrow.items())[:4])
    more = f' and {len(narrow) - 4} more' if len(narrow) > 4 else ''
    warnings.warn(
        f'narrow 1x1 convolutions with a stride: {names}{more}. In channels_last on this CPU, torch '
        f'{torch.__version__} crashes or gives wrong gradients for 2 to {block() - 1} input channels (oneDNN #6035). '
        f'Train the slim model and its inputs in torch.contiguous_format, or search with min_channels={block()} '
        '(docs/faq.md).',
        UserWarning,
        stacklevel=1,  # one place for all callers, so that the filter sees a repetition
    )
