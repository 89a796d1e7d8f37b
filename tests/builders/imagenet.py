"""A few ImageNet-shaped photographs: real JPEG files in the ImageFolder layout, from scikit-image's pictures."""

from pathlib import Path

import cv2
import numpy as np

PICTURES = ('astronaut', 'coffee', 'chelsea', 'motorcycle_left')


def make_imagenet(root: Path, count: int = 6) -> Path:
    """``root/{train,val}/nXXXXXXXX/*.JPEG``: 1,000 class folders, ``count`` crops of photographs in the first ones."""
    import skimage

    rng = np.random.default_rng(0)
    pictures = [cv2.imread(str(Path(skimage.__file__).parent / 'data' / f'{name}.png')) for name in PICTURES]
    for split in ('train', 'val'):
        for label in range(1000):
            folder = root / split / f'n{label:08d}'
            folder.mkdir(parents=True)
            if label < count:
                image = pictures[label % len(pictures)]
                h, w = rng.integers(200, 300, 2)
                y, x = rng.integers(0, image.shape[0] - h), rng.integers(0, image.shape[1] - w)
                cv2.imwrite(str(folder / f'{label}.JPEG'), np.ascontiguousarray(image[y : y + h, x : x + w]))
    return root
