"""Host libraries of configs."""

from __future__ import annotations

import importlib

from ..compat import import_mmyolo, prepare_mmpretrain, without_noise


def import_scope(scope: str | None) -> None:
    """Import the host library of a config's default scope, so that its classes are registered, and ours for it."""
    prepare_mmpretrain()
    if scope == 'mmyolo':
        import_mmyolo()
    if scope in ('mmpretrain', 'mmdet', 'mmyolo'):
        with without_noise():
            importlib.import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
        if scope == 'mmpretrain':
            from . import elastic, heads  # noqa: F401
