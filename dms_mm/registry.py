"""Registries of scope ``dms_mm``; imports nothing of the package.

Everything that a config may name by ``type`` is registered in one of these by its own module. Those of MMEngine's kinds
are children of MMEngine's roots. ``locations`` are imported when a registry is first asked for a name.

:func:`build` makes what a config names; whatever is wrong in it is one error that gives the nearest valid name.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import Registry

# MMEngine inherits `package::family/config.py` from the packages that it knows by name.
MODULE2PACKAGE.setdefault('dms_mm', 'dms_mm')


def _child(name: str, parent: Registry | None, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope='dms_mm', locations=[f'dms_mm.{place}' for place in locations])


MODELS = _child('model', MMENGINE_MODELS, 'algorithms.dms', 'models')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine')
LOOPS = _child('loop', MMENGINE_LOOPS, 'engine')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
METRICS = _child('metric', MMENGINE_METRICS, 'metrics')
OPTIMIZERS = _child('optimizer', MMENGINE_OPTIMIZERS, 'algorithms.optimizers')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', MMENGINE_CONSTRUCTORS, 'engine.optimizers')
MODEL_WRAPPERS = _child('model wrapper', MMENGINE_WRAPPERS, 'engine.cpu_parallel')

# What a search is made of.
UNITS = _child('mutable unit', None, 'mutables')
RESOURCES = _child('resource', None, 'resources')
RULES = _child('search rule', None, 'algorithms.rules')
SELECTORS = _child('selector', None, 'algorithms.selectors')
# Searches beside the gradient's, and how they tell good structures from bad ones.
STRATEGIES = _child('search strategy', None, 'algorithms.strategies')
JUDGES = _child('judge of structures', None, 'algorithms.strategies')
# What tracing knows: operators by their ATen name, modules traced as one operator, blocks that it can't see.
OPERATORS = _child('operator rule', None, 'tracing.rules')
WHOLES = _child('whole module', None, 'tracing.wholes')
BLOCKS = _child('residual block', None, 'mutators.blocks')


def register_all() -> None:
    """Import every module that registers something; safe to call twice."""
    for registry in (
        MODELS, HOOKS, LOOPS, DATASETS, METRICS, OPTIMIZERS, OPTIM_WRAPPER_CONSTRUCTORS, MODEL_WRAPPERS,
        UNITS, RESOURCES, RULES, SELECTORS, STRATEGIES, JUDGES, OPERATORS, WHOLES, BLOCKS,
    ):  # fmt: skip
        for place in registry._locations:
            importlib.import_module(place)


def nearest(name: object, names: Iterable[object]) -> str:
    """`` did you mean ...?`` with the one of ``names`` that is most like ``name``; empty if none is."""
    known = list(dict.fromkeys(str(n) for n in names))
    folded = {n.casefold(): n for n in reversed(known)}
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    near = near or [folded[n] for n in difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)]
    return f' did you mean {near[0]!r}?' if near else ''


def unknown(what: str, name: object, names: Iterable[object], plural: str | None = None, where: str = '') -> ValueError:
    """The error for a ``name`` that is none of ``names``: it tells the nearest one, and all."""
    known = list(dict.fromkeys(str(n) for n in names))
    listed = f'{plural or what + "s"} are: {", ".join(known) or "none"}'
    return ValueError(f'unknown {what} {name!r}{where};{nearest(name, known)} {listed}')


def registered(registry: Registry, name: str) -> bool:
    """Whether a plain name is registered; imports the registry's modules first."""
    registry.import_from_location()
    return name in registry.module_dict


def find(registry: Registry, name: Any, what: str) -> Callable[..., Any]:
    """The class (or function) of a name; a class itself is taken as it is.

    Raises:
        ValueError: nothing of this name is registered.
    """
    if callable(name):
        return name  # type: ignore[no-any-return]
    # Only a dotted name may be looked for outside: MMEngine would try to import a module called like a plain one.
    if isinstance(name, str) and (registered(registry, name) or '.' in name):
        try:
            found = registry.get(name)
        except RuntimeError:
            found = None
        if callable(found):
            return found
    raise unknown(what, name, registry.module_dict)


def options_of(function: Callable[..., Any], taken: Iterable[str] = ()) -> list[str]:
    """Names that a call takes as keywords, but those ``taken`` already."""
    taken = {'self', *taken}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in named and p.name not in taken]


def check_options(what: str, options: Iterable[str], valid: Iterable[str]) -> None:
    """Raise ValueError for the first option that is not ``valid``; it names the nearest one that is."""
    valid = list(valid)
    for name in options:
        if name not in valid:
            raise unknown('option', name, valid, where=f' of {what}')


def plain(config: Any) -> Any:
    """A config's value as plain dicts and lists, without the ``_scope_`` that MMEngine adds to inherited ones."""
    if isinstance(config, Mapping):
        return {k: plain(config[k]) for k in config if k != '_scope_'}
    return type(config)(map(plain, config)) if type(config) in (list, tuple) else config


def build(
    registry: Registry,
    spec: Any,
    *args: Any,
    what: str,
    beside: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Any:
    """What a config names: ``cls(*args, **options)``.

    Args:
        spec: a registered name, ``dict(type=..., option=...)``, or a class instead of a name.
        what: what it is, for messages: ``'rule'``.
        options: further options, given beside ``spec``.
        beside: what else may stand there; named in messages.

    Raises:
        ValueError: an unknown name, an unknown option, or one that is missing; names the nearest valid one.
    """
    given = dict(options or {})
    name = spec
    if isinstance(spec, Mapping):
        entries = plain(spec)
        if 'type' not in entries:
            raise ValueError(f'{what} {entries} has no `type`')
        name = entries.pop('type')
        twice = sorted(set(entries) & set(given))
        if twice:
            raise ValueError(f'option {twice[0]!r} of the {what} is given twice, beside it and in it')
        given = {**entries, **given}
    kind = find(registry, name, what)
    title = f'{what} {getattr(kind, "__name__", str(kind))}'
    signature = inspect.signature(kind)
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        own = options_of(kind, signature.bind_partial(*args).arguments)
        outside = sorted(set(given) & set(beside) - set(own))
        if outside:
            raise ValueError(f'option {outside[0]!r} is none of {title}: give it beside the {what}, not in it')
        check_options(title, given, [*own, *beside])
    try:
        signature.bind(*args, **given)
    except TypeError as error:
        raise ValueError(f'{title}: {error}') from error
    return kind(*args, **given)
