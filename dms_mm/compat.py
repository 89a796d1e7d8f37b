"""Imports of host libraries that need a hand."""

from __future__ import annotations

import importlib
import types


def import_mmyolo() -> types.ModuleType:
    """Import mmyolo 0.6.0, which refuses mmcv from 2.1 on by its version number alone.

    The number is shown as 2.0.1 during that one import; mmcv itself is untouched. mmyolo is GPL-3.0 and optional.

    Raises:
        ImportError: mmyolo or mmcv's compiled ops are missing; says how to install them.
    """
    import mmcv

    try:
        importlib.import_module('mmcv.ops')
        version = mmcv.__version__
        mmcv.__version__ = '2.0.1'
        try:
            module = importlib.import_module('mmyolo')
            importlib.import_module('mmyolo.models')
        finally:
            mmcv.__version__ = version
    except ImportError as error:
        raise ImportError(
            f'detection needs mmcv with compiled ops and mmyolo ({error}); run tools/setup_env.sh test'
        ) from error
    return module


def import_scope(scope: str | None) -> None:
    """Import the host library of a config's default scope, so that its classes are registered."""
    if scope == 'mmyolo':
        import_mmyolo()
        from mmyolo.utils import register_all_modules

        register_all_modules(init_default_scope=False)
    elif scope in ('mmpretrain', 'mmdet'):
        importlib.import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
        if scope == 'mmpretrain':
            importlib.import_module('dms_mm.models.heads')
