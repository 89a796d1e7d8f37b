"""Sums that make residual blocks: follow ``x + f(x)`` through a module, so that none need be named.

Of every tensor is followed which modules' inputs it contains as they are, and what it scales with (:mod:`.flow`): the
mask of a block goes to the last parameters that its branch is linear in, past whatever hands on what it gets (dropout,
drop path, layer scale), or to the output of a module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .arrangement import permuted, plain
from .flow import Flow, Joint, Origin, Sum, flow_of
from .ledger import Ledger, tensors_of
from .ranges import bounds_of, clamp_of

# Zero where their first tensor is.
ZERO_KEEPING = set(
    'relu relu6 gelu silu hardswish tanh leaky_relu elu neg abs sqrt square sin native_dropout _fused_dropout dropout '
    'selu celu mish sign expm1 log1p erf round floor ceil hardtanh'.split()
)
# Linear in a weight and a bias: where these are among the arguments.
AFFINE: dict[str, tuple[tuple[int, ...], int | None]] = {
    'convolution': ((1,), 2), 'addmm': ((2, 1), 0), 'baddbmm': ((2, 1), 0), 'mm': ((1, 0), None),
    'bmm': ((1, 0), None), 'mv': ((0, 1), None), 'native_layer_norm': ((2,), 3), 'native_group_norm': ((1,), 2),
    'deform_conv2d': ((1,), 4), 'deform_conv': ((2,), None), 'modulated_deform_conv': ((3,), 4),
    **dict.fromkeys(
        ('native_batch_norm', '_native_batch_norm_legit', '_native_batch_norm_legit_no_training',
         '_native_batch_norm_legit_functional', '_batch_norm_with_update', '_batch_norm_no_update'), ((1,), 2)),
}  # fmt: skip
REARRANGE = set('view _unsafe_view _reshape_alias unsqueeze squeeze'.split())
COPY = set('clone detach alias lift_fresh _to_copy'.split())
# A positive factor of the input is one of the output.
SCALING = (
    REARRANGE
    | COPY
    | set(
        'permute transpose t expand reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d '
        'slice select split split_with_sizes unbind roll flip repeat index_select index _unsafe_index gather '
        'unfold im2col col2im cumsum tril triu '
        'pixel_shuffle pixel_unshuffle channel_shuffle max_pool2d_with_indices max_pool3d_with_indices avg_pool1d '
        'avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d '
        'adaptive_max_pool2d upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d '
        'upsample_bicubic2d upsample_linear1d _upsample_bilinear2d_aa _upsample_bicubic2d_aa mean sum amax amin neg '
        'relu leaky_relu _prelu_kernel native_dropout div'.split()
    )
)
# Their values come from no tensor, even if one gives the shape.
MADE = set(
    'empty_like zeros_like ones_like rand_like randn_like full_like new_empty new_zeros new_ones new_full'.split()
)
LONGEST = 8  # a joint of more origins is not followed


def follow(ledger: Ledger, func: Any, out: Any, tensors: Sequence[Any], args: Any, kwargs: Any) -> None:
    """Note what an operator makes of the values that it gets; ``tensors`` are its arguments."""
    results = tensors_of(out)
    name = func._schema.name.partition('::')[2]
    # A tensor that is changed counts one version more, a view shares that of what it shows.
    version = 0
    if results and tensors:
        in_place, target = results[0] is tensors[0], results[0] is tensors[-1]
        version = results[0]._version + 1 if in_place or target else tensors[0]._version if func.is_view else 0
        # What `out=` had before is no part of the result.
        tensors = tensors[:-1] if target and not in_place else tensors
        name = name[:-1] if in_place and name.endswith('_') else name
    flows = [flow_of(x) for x in tensors]
    flow = Flow(
        name not in MADE and any(f.data for f in flows),
        _joint(name, tensors, flows, args, kwargs),
        *bounds_of(name, flows, args, kwargs),
        _sums(ledger, name, out, tensors, flows, args, kwargs),
        version,
    )
    for k, x in enumerate(results):
        known = x.is_floating_point() and (
            k == 0 or not name.startswith(('native_', '_native', '_batch_norm', '_weight_norm'))
        )
        x._dms_flow = flow if known else Flow(data=flow.data, version=version)
        x._dms_from = None


def _joint(name: str, tensors: Sequence[Any], flows: Sequence[Flow], args: Any, kwargs: Mapping[str, Any]) -> Joint:
    """What the result of an operator scales with."""
    if name in AFFINE:
        return _affine_joint(name, args, flows)
    if not flows:
        return ()
    if name == '_weight_norm_interface':
        return flows[1].joint  # its gain
    first, rest = flows[0], flows[1:]
    if name == 'constant_pad_nd':
        return first.joint if not any(args[2:3]) else ()
    if name in SCALING and not any(f.data for f in rest) and not kwargs.get('rounding_mode'):
        return first.joint
    if name in ('add', 'sub', 'cat', 'stack'):
        joint = sum((f.joint for f in flows), ())
        return joint if len(flows) > 1 and len(joint) <= LONGEST and all(f.joint for f in flows) else ()
    if name == 'mul':
        constant = [f for f in flows if not f.data]
        if len(constant) >= len(flows) - 1:
            # Past a layer scale; it takes the mask itself where nothing before it can.
            ways = tuple(f.joint for f in sorted(flows, key=lambda f: not f.data) if f.joint)
            return ways[0] if len(ways) == 1 else (Origin(ways=ways),) if ways else ()
        zero = next((f.joint for f in flows if f.joint), ())
    else:
        zero = first.joint if name in ZERO_KEEPING or name == 'div' else ()
    return (Origin(zero=zero),) if zero else ()


def _affine_joint(name: str, args: Any, flows: Sequence[Flow]) -> Joint:
    weights, bias = AFFINE[name]
    own = next((f for k in weights if not (f := flow_of(args[k])).data), None) if args[weights[0]] is not None else None
    shift = None if bias is None or args[bias] is None else flow_of(args[bias])
    if own is None:
        return ()
    if not own.joint:
        # A weight that is no parameter, as of a filter against aliasing.
        live = [f for f in flows if f.data]
        return live[0].joint if shift is None and len(live) == 1 else ()
    return own.joint + shift.joint if shift is not None and shift.joint else own.joint if shift is None else ()


def _sums(
    ledger: Ledger, name: str, out: Any, tensors: Sequence[Any], flows: Sequence[Flow], args: Any, kwargs: Any
) -> dict[str, Sum]:
    """The modules whose input is in the result of an operator as it is, with the branches that were added."""
    if len(tensors) == 1 and flows[0].sums:
        sums, x = flows[0].sums, tensors[0]
        if name in REARRANGE or name in COPY or (name == 'slice' and out.shape == x.shape):
            return sums
        if name in ('mul', 'div') and len(args) == 2 and args[1] == 1 and out.dtype == x.dtype:
            return sums  # a scale that is left at one
        if name in ('permute', 'transpose', 't'):
            order = _order(name, x.ndim, args)
            moved = {path: (permuted(s.arrangement, x.shape, order), s) for path, s in sums.items()}
            return {path: s._replace(arrangement=a) for path, (a, s) in moved.items() if a is not None}
        cut = clamp_of(name, args, kwargs)
        if cut is not None:
            # An input within the bounds passes as it is, once nothing is added to it.
            return {path: s for path, s in sums.items() if cut[0] <= s.low and s.high <= cut[1]}
    if name == 'addcmul' and len(tensors) == 3:
        # The second and third multiplied, as a branch that is added to the first.
        product = _joint('mul', tensors[1:], flows[1:], args[1:], {})
        tensors = [tensors[0], out]
        flows = [flows[0], Flow(any(f.data for f in flows[1:]), product)]
        name = 'add'
    if name in ('add', 'sub') and len(tensors) == 2:
        result = {}
        for k, (x, branch) in enumerate(((0, 1), (1, 0))):
            if tuple(out.shape) != tuple(tensors[x].shape) or (k and (name == 'sub' or kwargs.get('alpha', 1) != 1)):
                continue
            for path, s in flows[x].sums.items():
                if path in ledger.stack and flows[branch].data and path not in flows[branch].sums:
                    result[path] = s._replace(branches=(*s.branches, flows[branch].joint))
        return result
    return {}


def _order(name: str, ndim: int, args: Any) -> list[int]:
    if name == 'permute':
        return [d % ndim for d in args[1]]
    order = list(range(ndim))
    a, b = (d % ndim for d in (args[1:3] if name == 'transpose' else (0, ndim - 1)))
    order[a], order[b] = order[b], order[a]
    return order


def begin(ledger: Ledger, path: str, x: Any) -> None:
    """A module begins with ``x`` as its first tensor."""
    flow = flow_of(x)
    low, high = ledger.trace.bounds.get(path, (flow.low, flow.high))
    ledger.trace.bounds[path] = min(low, flow.low), max(high, flow.high)
    own = Sum(plain(x.shape), (), flow.low, flow.high)
    x._dms_flow = replace(flow, sums={**flow.sums, path: own}, version=x._version)


def end(ledger: Ledger, path: str, out: Any, results: Sequence[Any]) -> None:
    """A module ends and gives ``results``, the tensors of ``out``."""
    branches: tuple[Joint, ...] | None = None
    if results:
        first = results[0]
        flow = flow_of(first)
        x, own = ledger.inputs[path]() if path in ledger.inputs else None, flow.sums.get(path)
        # What returns more than its sum is asked for more than that.
        if x is not None and own is not None and own.branches and len(results) == 1:
            same = first.shape == x.shape and first.dtype == x.dtype and own.arrangement == plain(x.shape)
            branches = own.branches if same else None
        joint = flow.joint
        if (out is first or (isinstance(out, tuple) and out[0] is first)) and not (len(joint) == 1 and joint[0].module):
            joint = (Origin(module=path, ways=(joint,) if joint else ()),)
            first._dms_flow = replace(flow, joint=joint, version=first._version)
        ledger.made.setdefault(path, joint)
        first._dms_from = path
    before = ledger.blocks.get(path, branches)
    ledger.blocks[path] = branches if before is not None and branches and len(before) == len(branches) else None
