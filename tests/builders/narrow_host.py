"""Run in a process of its own: does oneDNN train narrow 1x1 convolutions with a stride (slimming/narrow.py)?

    python narrow_host.py BLOCK

Prints 'control' once layers of a whole block were right, and 'right' if the narrower ones were, too.
"""

import sys

import torch
from torch import nn


def is_right(channels, side):
    torch.manual_seed(channels)
    layer, x = nn.Conv2d(channels, 8, 1, stride=2, bias=False), torch.randn(4, channels, side, side)
    upstream = torch.randn(4, 8, side // 2, side // 2)

    def gradient(form):
        layer.to(memory_format=form).zero_grad()
        layer(x.contiguous(memory_format=form)).backward(upstream.contiguous(memory_format=form))
        return layer.weight.grad.clone()

    expected = gradient(torch.contiguous_format)
    found = [gradient(torch.channels_last) for _ in range(10)]
    return all(bool((f - expected).abs().max() < 1e-3 * expected.abs().max()) for f in found)


if __name__ == '__main__':
    torch.set_num_threads(1)
    block = int(sys.argv[1])
    if not all(is_right(block, side) for side in (16, 64)):
        raise SystemExit('the control is wrong')
    print('control', flush=True)
    if all([is_right(channels, side) for channels in range(2, block) for side in (16, 64)]):
        print('right', flush=True)
