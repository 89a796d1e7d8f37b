"""What a forward says about a model's structure, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .elements import Elements, IntArray
from .flow import Joint

Axes = list[tuple[int, IntArray]]
Entries = list[tuple[tuple[int, ...], IntArray]]
ParamDim = tuple[str, int]
Value = int | str | None
Numbers = dict[str, Any]  # argument -> array
Passed = int | str | list[int | str | None]
NO_CHANNELS = 'no channels: '  # begins the reason of a freeze that no report need tell


def layer_of(name: str) -> str:
    """Path of the layer that a parameter belongs to, which may be a parametrization of one."""
    layer, parametrized, _ = name.partition('.parametrizations.')
    return layer if parametrized else name.rpartition('.')[0]


@dataclass
class Cost:
    """MACs of one operator call: ``factor`` times the product of the kept positions of ``dims``."""

    factor: float
    dims: list[tuple[int, list[IntArray]]]
    module: str


@dataclass
class Call:
    """One operator call with the axes of its outputs, for checking a slim model against."""

    name: str
    module: str
    shapes: list[tuple[int, ...]]
    axes: list[Entries] = field(default_factory=list)
    input_shapes: list[tuple[int, ...]] = field(default_factory=list)
    input_axes: list[Entries] = field(default_factory=list)
    makers: list[frozenset[str] | None] = field(default_factory=list)
    numbers: Numbers = field(default_factory=dict)  # what it got by argument, lengths aside
    of_numbers: bool = False  # its tensors are made of numbers alone: what it got shows where they meet something else
    start: tuple[int, int, int] | None = None  # dimension of a slice, and where it begins; see start_of
    arguments: list[str] = field(default_factory=list)  # of its tensors
    # Values of its tensors and of its results, by number or by the name of a parameter; and what it wrote over besides.
    reads: list[Value] = field(default_factory=list)
    gives: list[Value] = field(default_factory=list)
    clobbers: list[Value] = field(default_factory=list)
    # Output dimensions of copies, whose length follows some other tensor.
    free: list[set[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Slot:
    """Stands for the tensor of this number among the arguments of a :class:`Step`."""

    place: int


@dataclass
class Shaped:
    """What is kept of a tensor: its axes as :class:`Call` has them, and its dimensions in the order of memory where
    that is not their own."""

    shape: tuple[int, ...]
    axes: Entries
    dtype: str
    order: tuple[int, ...] | None = None


@dataclass
class Step:
    """A function of torch that the forward called, as a device runs it: attention is one.

    Attributes:
        function: its dotted name; empty if it has none.
        given: ``(args, kwargs)`` with a :class:`Slot` for every tensor.
        view: nothing was computed: every result lies where an input lies.
    """

    function: str
    module: str
    given: Any
    inputs: list[Shaped]
    outputs: list[Shaped] = field(default_factory=list)
    reads: list[Value] = field(default_factory=list)
    gives: list[Value] = field(default_factory=list)
    view: bool = False


@dataclass
class Gate:
    """A block whose output is concatenated behind its own input: without it that part is a copy, and may go.

    The part is ``line[start : start + size]`` of the concatenation's elements, each composed of a channel and ``id``;
    the block's input is ``line[source : source + size]``.
    """

    id: int
    line: IntArray
    start: int
    source: int
    size: int


@dataclass(eq=False)
class Choice:
    """Scores of positions ``ids`` enter the ``nth`` operator that chooses among ``size`` of them in a ``module``.

    ``way`` is what masks do to them, see ``mutators.choices``; ``reason`` is why they stay where nothing comes of it
    that names them.
    """

    module: str
    operator: str
    size: int
    nth: int
    ids: IntArray
    way: str
    reason: str


@dataclass
class Trace:
    """What a forward says about a model's structure.

    What a kind of whole module notes of its modules is a list of its own: ``(specification, elements)`` by path.
    """

    elements: Elements = field(default_factory=Elements)
    params: dict[str, list[IntArray]] = field(default_factory=dict)  # per dimension the ids of its positions
    consumers: dict[ParamDim, None] = field(default_factory=dict)  # contracted dimensions: they take the masks
    producers: dict[ParamDim, None] = field(default_factory=dict)
    products: list[tuple[str, IntArray]] = field(default_factory=list)  # the same for reshaped weights
    grouped: dict[str, str] = field(default_factory=dict)  # weight of a grouped conv -> 'groups' | 'width'
    costs: list[Cost] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)  # where scores take the logarithms of masks
    chosen: list[tuple[IntArray, int]] = field(default_factory=list)  # so many of these at once
    looked_up: list[IntArray] = field(default_factory=list)  # their numbers picked something
    picked: dict[str, IntArray] = field(default_factory=dict)  # module, called by its number -> what that is one of
    numbered: list[IntArray] = field(default_factory=list)  # a number that is one of these was read or compared with
    matched: list[IntArray] = field(default_factory=list)  # and picked something of a tensor
    experts: dict[str, IntArray] = field(default_factory=dict)  # list of modules -> which of these runs each
    multiples: list[tuple[IntArray, int]] = field(default_factory=list)  # a kernel takes so many of these at a time
    calls: list[list[Call]] = field(default_factory=list)  # one list per traced mode
    steps: list[Step] = field(default_factory=list)  # in eval mode: what a device is asked to run
    normed: dict[str, tuple[str, int]] = field(
        default_factory=dict
    )  # direction of a weight_norm -> gain, its dimension
    requests: list[tuple[frozenset[str], IntArray]] = field(default_factory=list)  # parameters masked where made
    requested: dict[frozenset[str], set[int]] = field(default_factory=dict)
    customary: list[tuple[frozenset[str], IntArray]] = field(default_factory=list)  # requests that heads alone need
    relied: list[IntArray] = field(default_factory=list)  # masked by requests, and so not by what consumes them
    barred: dict[ParamDim, None] = field(default_factory=dict)  # masks here would make zero what is divided by
    together: set[frozenset[frozenset[str]]] = field(default_factory=set)  # makers that have to be zero together
    excused: set[frozenset[str]] = field(default_factory=set)  # makers of which others mask what some are barred from
    biases: list[tuple[IntArray, IntArray]] = field(default_factory=list)  # rows of a weight, entries of its bias
    heads: list[IntArray] = field(default_factory=list)  # batch dimensions of products of two activations
    head_dims: list[IntArray] = field(default_factory=list)  # their contracted and last dimensions
    several: list[IntArray] = field(default_factory=list)  # over one of these an einsum would be no product
    # Module that adds to its input -> what it adds (modules, parameters) -> the parameters that this is linear in.
    residual: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    sums: dict[str, tuple[Joint, ...] | None] = field(default_factory=dict)  # the same as met, None for no such module
    made: dict[str, Joint] = field(default_factory=dict)  # module -> what its output scales with
    uses: dict[str, list[frozenset[str]]] = field(default_factory=dict)  # parameter -> modules running at each use
    callers: dict[str, list[frozenset[str]]] = field(default_factory=dict)  # module -> modules running at each call
    # Module with several arguments, or a tuple as output -> what it passes on; see ``modules.passed_on``.
    outputs: dict[str, Passed] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)  # block -> its part of a concatenation
    norms: dict[str, tuple[Any, IntArray]] = field(default_factory=dict)  # statistics over these elements
    standardised: dict[str, tuple[Any, IntArray | None]] = field(default_factory=dict)  # convs, their inputs
    compact: dict[str, tuple[Any, IntArray]] = field(default_factory=dict)  # run on what lives of these
    stuck: dict[str, None] = field(default_factory=dict)  # modules that mix channels
    group_norms: dict[str, tuple[int, IntArray]] = field(default_factory=dict)  # whole groups of these go
    atomic: dict[str, None] = field(default_factory=dict)  # modules whose operators are not looked at
    io: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # module -> (shape, axes) of input and output
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)  # module -> between which its inputs lie
    order: list[str] = field(default_factory=list)  # modules in the order of their first call
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # module or tensor of several names -> all of them
    unknown: dict[str, str] = field(default_factory=dict)  # operator -> module where it froze something
    results: list[set[Value]] = field(default_factory=list)  # per mode the values that a forward returns
    lifetimes: list[Any] = field(default_factory=list)  # per mode what memory a forward asks for, see lifetimes.py
    used: set[str] = field(default_factory=set)
    decisions: dict[bool, Any] = field(default_factory=dict)  # training -> what data decided, see decisions.py
    caches: dict[Any, Any] = field(default_factory=dict)  # what a forward fills, see caches.py
    notes: list[str] = field(default_factory=list)

    def linear(self, place: ParamDim) -> ParamDim:
        """Where a mask for a dimension of a parameter acts: for the one that a weight_norm keeps, on its gain."""
        gain, dim = self.normed.get(place[0], ('', -1))
        return (gain, dim) if place[1] == dim else place
