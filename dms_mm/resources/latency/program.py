"""One or several functions of torch that a device runs as one, as plain values: which functions, of tensors of which
sizes, and how the sizes follow what the units keep.

A *dimension* is a whole number, or ``[kind, n]``: ``['b', n]`` is ``n`` times the batch, ``['v', n]`` the count of the
variable ``n``, ``['bv', n]`` that times the batch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Size = int | list[Any]
Kind = Literal['product', 'depthwise', 'other']  # 'depthwise': any convolution in groups
KINDS: tuple[Kind, ...] = get_args(Kind)

# What multiplies matrices: a device spends its time otherwise there than where it moves memory.
PRODUCTS = set(
    'conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear matmul __matmul__ mm bmm '
    'addmm baddbmm addbmm einsum scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh rnn_relu '
    'lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell'.split()
)
GROUPS = 6  # place of `groups` among the arguments of a convolution, transposed or not
# What compilers put into the kernel of what came before.
FUSED = set(
    'batch_norm relu relu_ relu6 silu gelu sigmoid sigmoid_ tanh tanh_ hardtanh hardswish hardsigmoid leaky_relu elu '
    'selu softplus mish prelu clamp clamp_ clip add add_ __iadd__ sub sub_ mul mul_ __imul__ div div_ neg exp sqrt '
    'rsqrt square abs pow'.split()
)


@dataclass
class Argument:
    """A tensor that a program is given.

    Attributes:
        order: dimensions from the outermost in memory to the innermost, None for as they are counted.
        constant: it follows from parameters alone.
    """

    dims: list[Size]
    dtype: str
    order: list[int] | None = None
    constant: bool = False


@dataclass
class Action:
    """A function with its arguments, where dicts of one entry stand for what JSON has not: ``{'t': k}`` for the k-th
    tensor of the program, ``{'r': [j, k]}`` for the k-th result of its j-th action, ``{'shape': k}`` for its own
    shape, ``{'b': n}`` for n times the batch, ``{'torch': name}`` for a dtype or the like (``device`` is where it
    runs), ``{'seq': [...]}`` for a tuple or list."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[list[Size]] = field(default_factory=list)  # dimensions

    @property
    def name(self) -> str:
        return self.function.rpartition('.')[2]

    @property
    def groups(self) -> int:
        """Of a convolution, in the supernet."""
        if not self.name.startswith('conv'):
            return 1
        return int(self.args[GROUPS] if len(self.args) > GROUPS else self.kwargs.get('groups', 1))


@dataclass
class Program:
    """
    Attributes:
        sizes: of the variables, in the supernet.
        joint: they are more than two, or depend on each other.
        shared: of such variables the one that every tensor has which has any, and that depends on no other: heads of an
            attention.
    """

    actions: list[Action]
    arguments: list[Argument]
    sizes: list[int]
    joint: bool = False
    shared: int | None = None

    def digest(self) -> str:
        """Equal programs have equal ones."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def kind(self) -> Kind:
        """What a correction takes together."""
        products = [action for action in self.actions if action.name in PRODUCTS]
        if any(action.groups > 1 for action in products):
            return 'depthwise'
        return 'product' if products else 'other'

    def told(self) -> str:
        """For people: functions, and the shape of what they start from."""
        names = '+'.join(action.name for action in self.actions)
        shapes = ' '.join(shape_told(a.dims, self.sizes) for a in self.arguments[:2])
        return f'{names} of {shapes}'.strip()

    def tensors(self) -> list[list[Size]]:
        """Dimensions of what is read, and of the results."""
        return [a.dims for a in self.arguments] + [dims for action in self.actions[-1:] for dims in action.results]

    def coordinates(self, sizes: Sequence[int]) -> list[float]:
        """What the table of this program goes by: the sizes of its variables. Of joint ones the shared one, and how
        many values are read and written (for one of it)."""
        if not self.joint:
            return [float(size) for size in sizes]
        ones = [1 if v == self.shared else size for v, size in enumerate(sizes)]
        extent = float(sum(math.prod(size_of(d, ones, 1) for d in dims) for dims in self.tensors()))
        return [extent] if self.shared is None else [float(sizes[self.shared]), extent]

    def common(self) -> set[int]:
        """Variables that every tensor has which has any."""
        per_tensor = [found for dims in self.tensors() if (found := variables_in(dims))]
        return set.intersection(*per_tensor) if per_tensor else set()


def size_of(dim: Size, sizes: Sequence[int], batch: int) -> int:
    if isinstance(dim, int):
        return dim
    kind, n = dim
    return {'b': batch * n, 'v': sizes[n] if kind != 'b' else 0, 'bv': batch * sizes[n] if kind != 'b' else 0}[kind]


def variables_in(dims: Sequence[Size]) -> set[int]:
    return {d[1] for d in dims if isinstance(d, list) and d[0] != 'b'}


def shape_told(dims: Sequence[Size], sizes: Sequence[int]) -> str:
    return '(' + ', '.join('B' if d == ['b', 1] else str(size_of(d, sizes, 1)) for d in dims) + ')'
