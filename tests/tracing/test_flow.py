"""What is said of tensors' values, compared with what operators do to real ones."""

from __future__ import annotations

import math

import mmcv.ops  # noqa: F401 -- whose functions its operators run
import pytest
import torch
import torchvision  # noqa: F401 -- its operators

from dms_mm.tracing.arrangement import permuted, plain
from dms_mm.tracing.flow import Flow
from dms_mm.tracing.ranges import ARITHMETIC, BETWEEN, FIXED, POSITIVE, bounds_of
from dms_mm.tracing.residual import AFFINE, SCALING

aten = torch.ops.aten
CLAMPS = {'relu', 'hardtanh', 'clamp', 'clamp_min', 'clamp_max'}
BOUNDED = {*FIXED, *BETWEEN, *POSITIVE, *ARITHMETIC, *CLAMPS}

PLACE = torch.tensor([2, 0, 1])
# Operator -> what its arguments are, for an input (2, 4, 6, 6).
SAMPLES = {
    'view': [lambda x: (x, [8, 36])],
    '_unsafe_view': [lambda x: (x, [8, 36])],
    '_reshape_alias': [lambda x: (x, [8, 36], [36, 1])],
    'unsqueeze': [lambda x: (x, 1)],
    'squeeze': [lambda x: (x[:1],), lambda x: (x[:1], 0)],
    'clone': [lambda x: (x,)],
    'detach': [lambda x: (x,)],
    'alias': [lambda x: (x,)],
    'lift_fresh': [lambda x: (x,)],
    '_to_copy': [lambda x: (x,)],
    'permute': [lambda x: (x, [0, 2, 3, 1])],
    'transpose': [lambda x: (x, 1, -1)],
    't': [lambda x: (x[0, 0],)],
    'expand': [lambda x: (x, [3, 2, 4, 6, 6])],
    'slice': [lambda x: (x, 1, 1, 3, 1)],
    'select': [lambda x: (x, 1, 2)],
    'split': [lambda x: (x, 3, 1)],
    'split_with_sizes': [lambda x: (x, [1, 3], 1)],
    'unbind': [lambda x: (x, 1)],
    'roll': [lambda x: (x, [2], [1])],
    'flip': [lambda x: (x, [1, 2])],
    'repeat': [lambda x: (x, [1, 2, 1, 1])],
    'index_select': [lambda x: (x, 1, PLACE)],
    'index': [lambda x: (x, [None, PLACE])],
    '_unsafe_index': [lambda x: (x, [None, PLACE])],
    'gather': [lambda x: (x, 1, PLACE.view(1, 3, 1, 1).expand(2, 3, 6, 6))],
    'unfold': [lambda x: (x, 2, 3, 1)],
    'im2col': [lambda x: (x, [2, 2], [1, 1], [0, 0], [2, 2])],
    'col2im': [lambda x: (x.view(2, 16, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1])],
    'tril': [lambda x: (x,)],
    'triu': [lambda x: (x, 1)],
    'pixel_shuffle': [lambda x: (x, 2)],
    'pixel_unshuffle': [lambda x: (x, 2)],
    'channel_shuffle': [lambda x: (x, 2)],
    'cat': [lambda x: ([x, x + 0.0], 1)],
    'stack': [lambda x: ([x, x.flip(0)], 1)],
    'reflection_pad1d': [lambda x: (x[0], [2, 1])],
    'reflection_pad2d': [lambda x: (x, [2, 1, 1, 1])],
    'replication_pad1d': [lambda x: (x[0], [2, 1])],
    'replication_pad2d': [lambda x: (x, [2, 1, 1, 1])],
    'constant_pad_nd': [lambda x: (x, [1, 1]), lambda x: (x, [0, 2], 0.5), lambda x: (x, [1, 0], -7.0)],
    'max_pool2d_with_indices': [lambda x: (x, [3, 3], [2, 2], [1, 1])],
    'max_pool3d_with_indices': [lambda x: (x, [2, 2, 2])],
    'avg_pool1d': [lambda x: (x[0], [2], [2], [1])],
    'avg_pool2d': [
        lambda x: (x, [3, 3], [2, 2], [1, 1], True, False),
        lambda x: (x, [2, 2], [2, 2], 0, False, True, 2),
    ],
    'avg_pool3d': [lambda x: (x, [2, 2, 2])],
    '_adaptive_avg_pool2d': [lambda x: (x, [3, 4])],
    '_adaptive_avg_pool3d': [lambda x: (x, [2, 3, 3])],
    'adaptive_avg_pool1d': [lambda x: (x[0], [4])],
    'adaptive_avg_pool2d': [lambda x: (x, [4, 5])],
    'adaptive_max_pool2d': [lambda x: (x, [4, 5])],
    'upsample_nearest1d': [lambda x: (x[0], [9])],
    'upsample_nearest2d': [lambda x: (x, [9, 4])],
    '_upsample_nearest_exact2d': [lambda x: (x, [9, 4])],
    'upsample_bilinear2d': [lambda x: (x, [9, 4], True), lambda x: (x, [9, 4], False)],
    'upsample_bicubic2d': [lambda x: (x, [9, 4], False)],
    'upsample_linear1d': [lambda x: (x[0], [9], False)],
    '_upsample_bilinear2d_aa': [lambda x: (x, [3, 9], False)],
    '_upsample_bicubic2d_aa': [lambda x: (x, [3, 9], False)],
    'mean': [lambda x: (x, [2, 3], True), lambda x: (x,)],
    'sum': [lambda x: (x, [1]), lambda x: (x,)],
    'cumsum': [lambda x: (x, 1)],
    'amax': [lambda x: (x, [1])],
    'amin': [lambda x: (x, [1])],
    'max': [lambda x: (x,), lambda x: (x, 1), lambda x: (x, x.flip(1))],
    'min': [lambda x: (x,), lambda x: (x, 1), lambda x: (x, x.flip(1))],
    'maximum': [lambda x: (x, x.flip(1))],
    'minimum': [lambda x: (x, x.flip(1))],
    'neg': [lambda x: (x,)],
    'relu': [lambda x: (x,)],
    'leaky_relu': [lambda x: (x, 0.2)],
    '_prelu_kernel': [lambda x: (x, torch.tensor([0.1, -0.2, 0.3, 0.0]).view(1, 4, 1, 1))],
    'native_dropout': [lambda x: (x, 0.3, True)],
    'div': [lambda x: (x, 3.0), lambda x: (x, torch.tensor(-2.0)), lambda x: (x, torch.rand(4, 1, 1) + 0.5)],
    'mul': [lambda x: (x, 3.0), lambda x: (x, -3.0), lambda x: (x, x.flip(1))],
    'add': [lambda x: (x, 3.0), lambda x: (x, -3.0), lambda x: (x, x.flip(1))],
    'hardtanh': [lambda x: (x,), lambda x: (x, 0.0, 6.0), lambda x: (x, -0.5)],
    'clamp': [lambda x: (x, -0.2), lambda x: (x, None, 0.3), lambda x: (x, 0.1, 0.2)],
    'clamp_min': [lambda x: (x, 0.1)],
    'clamp_max': [lambda x: (x, 0.1)],
    'sigmoid': [lambda x: (x,)],
    'hardsigmoid': [lambda x: (x,)],
    '_softmax': [lambda x: (x, 1, False)],
    'tanh': [lambda x: (x,)],
    'exp': [lambda x: (x,)],
    'abs': [lambda x: (x,)],
    'square': [lambda x: (x,)],
    'softplus': [lambda x: (x,)],
    'sqrt': [lambda x: (x.relu(),)],
    'pow': [lambda x: (x, 2), lambda x: (x, 3), lambda x: (x.relu(), 0.5), lambda x: (x.relu(), -1)],
    'norm': [lambda x: (x, 2, [1]), lambda x: (x,)],
    'linalg_vector_norm': [lambda x: (x, 2, [1]), lambda x: (x, 1)],
    'var': [lambda x: (x, [1]), lambda x: (x,)],
    'std': [lambda x: (x, [1]), lambda x: (x,)],
    'rand': [lambda x: ([3, 4],)],
    'convolution': [
        lambda x: (x, torch.randn(3, 4, 2, 2), torch.randn(3), [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
        lambda x: (x, torch.randn(4, 3, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1),
    ],
    'deform_conv2d': [
        lambda x: (
            x, torch.randn(3, 4, 2, 2), torch.randn(2, 8, 5, 5), torch.zeros(2, 1), torch.randn(3),
            1, 1, 0, 0, 1, 1, 1, 1, False,
        )
    ],
    'deform_conv': [
        lambda x: (x, torch.randn(2, 8, 5, 5), torch.randn(3, 4, 2, 2), [1, 1], [0, 0], [1, 1], 1, 1),
    ],
    'modulated_deform_conv': [
        lambda x: (
            x, torch.randn(2, 8, 5, 5), torch.rand(2, 4, 5, 5), torch.randn(3, 4, 2, 2), torch.randn(3),
            [1, 1], [0, 0], [1, 1], 1, 1,
        )
    ],
    'addmm': [lambda x: (torch.randn(5), x[0, 0], torch.randn(6, 5))],
    'baddbmm': [lambda x: (torch.randn(4, 6, 5), x[0], torch.randn(4, 6, 5))],
    'mm': [lambda x: (x[0, 0], torch.randn(6, 5))],
    'bmm': [lambda x: (x[0], torch.randn(4, 6, 5))],
    'mv': [lambda x: (x[0, 0], torch.randn(6))],
    'native_layer_norm': [lambda x: (x, [6], torch.rand(6), torch.rand(6), 1e-5)],
    'native_group_norm': [lambda x: (x, torch.rand(4), torch.rand(4), 2, 4, 36, 2, 1e-5)],
    'native_batch_norm': [
        lambda x: (x, *torch.rand(4, 4), False, 0.1, 1e-5),
        lambda x: (x, *torch.rand(4, 4), True, 0.1, 1e-5),
    ],
    '_native_batch_norm_legit': [lambda x: (x, *torch.rand(4, 4), True, 0.1, 1e-5)],
    '_native_batch_norm_legit_no_training': [lambda x: (x, *torch.rand(4, 4), 0.1, 1e-5)],
    '_native_batch_norm_legit_functional': [lambda x: (x, *torch.rand(4, 4), True, 0.1, 1e-5)],
    '_batch_norm_with_update': [lambda x: (x, *torch.rand(4, 4), 0.1, 1e-5)],
    '_batch_norm_no_update': [lambda x: (x, *torch.rand(4, 4), 0.1, 1e-5)],
}  # fmt: skip


def results(name, args):
    """The results that something is said of; the same random numbers at every call."""
    torch.manual_seed(1)
    libraries = (aten, torch.ops.torchvision, torch.ops.mmcv)
    out = getattr(next(library for library in libraries if hasattr(library, name)), name)(*args)
    found = [x for x in (out if isinstance(out, (tuple, list)) else [out]) if x.is_floating_point()]
    return found[:1] if name.startswith(('native_', '_native', '_batch_norm')) else found


def inputs(kind='as they are'):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float32)
    return {
        'as they are': (x, -math.inf, math.inf),
        'rectified': (x.relu(), 0.0, math.inf),
        'negative': (-x.abs(), -math.inf, 0.0),
        'between 0 and 6': (3 * x.relu().clamp(max=2), 0.0, 6.0),
        'between -1 and 1': (x.tanh(), -1.0, 1.0),
    }[kind]


def test_every_operator_has_a_sample():
    assert {*SCALING, *AFFINE, *BOUNDED} == set(SAMPLES)


@pytest.mark.parametrize('name', sorted(SCALING))
def test_operators_hand_on_a_factor_of_their_first_tensor(name):
    x, _, _ = inputs()
    for sample in SAMPLES[name]:
        args = sample(x)
        for a, b in zip(results(name, args), results(name, (args[0] * 0.25, *args[1:])), strict=True):
            assert a.any()
            torch.testing.assert_close(b, a * 0.25)


@pytest.mark.parametrize('name', sorted(AFFINE))
def test_operators_are_linear_in_a_weight_and_a_bias(name):
    x, _, _ = inputs()
    weights, bias = AFFINE[name]
    for sample in SAMPLES[name]:
        args = sample(x)
        for k in weights:
            scaled = [a * 0.25 if i in (k, bias) and a is not None else a for i, a in enumerate(args)]
            (a,), (b,) = results(name, args), results(name, scaled)
            torch.testing.assert_close(b, a * 0.25, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', sorted(BOUNDED))
def test_bounds_hold(name):
    told = 0
    for kind in ('as they are', 'rectified', 'negative', 'between 0 and 6', 'between -1 and 1'):
        x, low, high = inputs(kind)
        for sample in SAMPLES[name]:
            args = sample(x)
            flat = [y for a in args for y in (a if isinstance(a, list) else [a]) if isinstance(y, torch.Tensor)]
            flows = [Flow(low=low, high=high) for _ in flat]
            if name == 'div':
                flows[1:] = [Flow(low=float(y.min()), high=float(y.max())) for y in flat[1:]]
            bottom, top = bounds_of(name, flows, args, {})
            told += (bottom, top) != (-math.inf, math.inf)
            for y in results(name, args):
                assert bottom - 1e-6 <= float(y.min()) and float(y.max()) <= top + 1e-6, (kind, bottom, top)
    assert told, 'nothing is said of it'


@pytest.mark.parametrize('alpha', [1, -2])
def test_bounds_of_a_sum_with_a_factor(alpha):
    x, low, high = inputs('rectified')
    bottom, top = bounds_of('add', [Flow(low=low, high=high)] * 2, (x, x.flip(1)), {'alpha': alpha})
    y = torch.add(x, x.flip(1), alpha=alpha)
    assert bottom <= float(y.min()) and float(y.max()) <= top


def test_rearrangements_are_those_of_real_tensors():
    generator = torch.Generator().manual_seed(0)

    def draw(high):
        return int(torch.randint(high, (), generator=generator))

    identities = 0
    for _ in range(300):
        shape = [[2, 3, 4, 6], [4, 4, 9], [2, 8, 8, 3], [6, 6]][draw(4)]
        x = torch.arange(math.prod(shape)).view(shape)
        start, arrangement = x, plain(shape)
        for _ in range(1 + draw(4)):
            if draw(2):
                sizes = [
                    [2, 12, 6],
                    [144],
                    [3, 4, 3, 4],
                    [16, 9],
                    [12, 12],
                    [36],
                    [6, 6],
                    [4, 9],
                    [384],
                    [8, 48],
                    [48, 2, 4],
                ]
                fitting = [s for s in sizes if math.prod(s) == x.numel()]
                x = x.reshape(fitting[draw(len(fitting))])
            else:
                order = torch.randperm(x.ndim, generator=generator).tolist()
                arrangement = permuted(arrangement, x.shape, order)
                x = x.permute(order)
            if arrangement is None:
                break
        else:
            index = torch.zeros(1, dtype=torch.long)
            for stride, size in arrangement:
                index = (index[:, None] + stride * torch.arange(size)).flatten()
            assert torch.equal(start.flatten()[index], x.reshape(-1))
            identity = torch.equal(x.reshape(-1), start.flatten())
            assert identity == (arrangement == plain(shape))
            identities += identity
    assert 20 < identities < 200
