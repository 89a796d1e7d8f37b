"""Carry out on a model what a structure says, without asking whether it will run."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..tracing.caches import INTERNAL
from ..tracing.holders import leaves
from ..tracing.state import State
from .fit import Change, changes_of, own_tensors
from .layers import set_layer_attributes
from .skip import Skip, close_gaps
from .structure import Structure


def shrink(model: nn.Module, structure: Structure) -> nn.Module:
    """:func:`~.slim.build_slim` for a structure that may be wrong: a trial of what it makes shows where."""
    return apply_changes(model, structure, changes_of(model, structure))


def apply_changes(model: nn.Module, structure: Structure, changes: dict[int, Change]) -> nn.Module:
    """Make a model slim, in place: tensors, attributes, blocks."""
    # Every new tensor is made before the first is set. The old ones are held meanwhile, so identities stay unique.
    originals = {id(x): x for module in model.modules() for _, _, x in own_tensors(module) if id(x) in changes}
    made: dict[int, Tensor] = {key: changes[key](x) for key, x in originals.items()}
    modules = dict(model.named_modules(remove_duplicate=False))
    changing = {path for path, module in modules.items() if any(id(x) in made for _, _, x in own_tensors(module))}
    touched = changing.union(structure.attributes, (path.partition('.parametrizations.')[0] for path in changing))
    _follow_names(model, made)
    for path in changing:
        for store, key, x in list(own_tensors(modules[path])):
            if id(x) in made:  # what follows names has not been there
                store[key] = made[id(x)]
    for path in touched:
        for name, value in structure.attributes.get(path, {}).items():
            setattr(modules[path], name, _like(getattr(modules[path], name, None), value))
        set_layer_attributes(modules[path])
    holders: dict[int, list[tuple[nn.Module, str]]] = {}  # a block may have several names
    for holder in dict.fromkeys(modules.values()):
        for name, module in holder._modules.items():
            holders.setdefault(id(module), []).append((holder, name))
    for path in structure.removed:
        parent, _, child = path.rpartition('.')
        if path in structure.dropped:
            del modules[parent]._modules[child]
            continue
        skip = nn.Identity() if path not in structure.outputs else Skip(modules[path], structure.outputs[path])
        for holder, name in holders[id(modules[path])]:
            holder._modules[name] = skip
    if structure.renumber:
        close_gaps(model, structure.removed, structure.renumber)
    return model


def resume_mode(model: nn.Module) -> nn.Module:
    """Switch a model to the mode that it is in: some modules make tensors by which a mode goes when it begins."""
    flags = {m: m.training for m in model.modules()}
    learnt = {p: p.requires_grad for p in model.parameters()}
    for module in list(model.modules()):
        if type(module).train is not nn.Module.train:
            module.train(module.training)
    for module, flag in flags.items():
        module.training = flag
    for p, flag in learnt.items():
        p.requires_grad_(flag)
    return model


def _follow_names(model: nn.Module, made: dict[int, Tensor]) -> None:
    """What modules keep of their tensors beside the registered ones (a list of weights) is of the new tensors."""
    own = [value for m in model.modules() for key, value in vars(m).items() if key not in INTERNAL]
    if any(id(x) in made for value in own for x in leaves(value)):
        State(model).substitute(made)


def _like(old: Any, value: Any) -> Any:
    """JSON has lists alone; a list stays one, and anything else of several numbers is a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) and type(old) is not list else value
