"""Imports of host libraries that need a hand."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

# What mmpretrain, mmdet and mmcv tell everybody who imports them about parts that nobody asked for: a private service
# of their publisher, and an operator of deformable attention, whose users get an ImportError of their own.
NOISE = ('Could not import OneDL', 'Could not import OneDL. Skipping OneDL datasets.')
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')


def _major(package: str) -> int:
    """The installed major version of a package; 0 where there is none."""
    try:
        return int(importlib.metadata.version(package).partition('.')[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def prepare_mmpretrain() -> None:
    """Let mmpretrain 1.3.6 be imported beside transformers 5.

    Its multimodal models (BLIP and others) want functions that transformers 5 has no more, and then nothing of
    ``mmpretrain.models`` can be imported, nor what imports it in mmdet. They are left out, as mmpretrain itself does
    where their requirements are missing: building one says so. Has to run before ``mmpretrain.models`` is imported.
    """
    if _major('transformers') >= 5:
        with contextlib.suppress(ModuleNotFoundError):
            vars(importlib.import_module('mmpretrain.utils.dependency'))['WITH_MULTIMODAL'] = False


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Imports inside print all that they print but for the lines of ``NOISE``."""
    logger = importlib.import_module('mmengine.logging.logger')

    def say(*args: Any, **kwargs: Any) -> None:
        if args[:1] not in [(line,) for line in NOISE]:
            print(*args, **kwargs)

    # What `print_log` calls. A stdout of ours would be kept by log handlers that an import makes.
    logger.__dict__['print'] = say
    try:
        yield
    finally:
        del logger.__dict__['print']


def format_configs_once() -> None:
    """Remember how a config is formatted, which takes seconds.

    MMEngine has yapf do so for the log, the dump, every visualizer and every checkpoint anew.
    """
    yapf: Any = importlib.import_module('yapf.yapflib.yapf_api')
    if 'known' not in yapf.FormatCode.__dict__:
        yapf.FormatCode = _remembering(yapf.FormatCode)


def _remembering(format_code: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[str, Any] = {}

    def remembered(text: str, **options: Any) -> Any:
        key = repr((text, sorted(options.items())))
        if key not in known:
            known.clear()
            known[key] = format_code(text, **options)
        return known[key]

    remembered.__dict__['known'] = known
    return remembered


def import_mmyolo() -> types.ModuleType:
    """Import mmyolo 0.6.0, which refuses mmcv from 2.1 on by its version number alone.

    The number is shown as 2.0.1 during that one import; mmcv itself is untouched. mmyolo is GPL-3.0 and optional.

    Raises:
        ImportError: mmyolo or mmcv's compiled ops are missing; says how to install them.
    """
    import mmcv

    prepare_mmpretrain()
    try:
        importlib.import_module('mmcv.ops')
        version = mmcv.__version__
        mmcv.__version__ = '2.0.1'
        try:
            with without_noise():
                module = importlib.import_module('mmyolo')
                importlib.import_module('mmyolo.models')
        finally:
            mmcv.__version__ = version
    except ImportError as error:
        raise ImportError(
            f'detection needs mmcv with compiled ops and mmyolo ({error}); run tools/setup_env.sh test'
        ) from error
    return module
