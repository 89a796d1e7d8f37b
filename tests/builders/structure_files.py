"""Structure files of real models, and ways to spoil them."""

import copy
import functools

import torch

import dms_mm
from builders.concatenated import network
from builders.structures import harden_randomly
from builders.zoo import ZOO, example
from dms_mm.slimming.structure import digest

VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=4, num_classes=10)


def _timm_vit():
    import timm

    return timm.create_model('vit_tiny_patch16_224', **VIT)


def _resnext():
    from timm.models.resnet import Bottleneck, ResNet

    return ResNet(
        Bottleneck, (2, 1, 2, 1), num_classes=10, cardinality=8, base_width=4, block_args={'attn_layer': 'se'}
    )


def _torchvision_vit():
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(32, 8, 2, 4, 24, 40, num_classes=10)


MODELS = {
    'residual blocks': ZOO['torchvision/resnet18'],
    'grouped convolutions, squeeze and excitation': _resnext,
    'stored head counts': _timm_vit,
    'nn.MultiheadAttention': _torchvision_vit,
    'folds and blocks out of a list': lambda: network()[0].float(),
}


@functools.cache
def _made(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    inputs = torch.randn(2, 3, 9, 9) if name.startswith('folds') else example(size=32)
    plain = copy.deepcopy(model)
    space = dms_mm.make_searchable(model, inputs)
    for seed in range(20):
        harden_randomly(space, seed)
        if space.structure().removed or not any(u.kind == 'depth' for u in space.units.values()):
            break
    return plain, inputs, space.structure()


def made(name):
    """A fresh supernet, its example inputs, and a random structure of it that has lost a block if any can go."""
    plain, inputs, structure = _made(name)
    return copy.deepcopy(plain), inputs, copy.deepcopy(structure)


@functools.cache
def text_of(name, folder):
    """The structure file as text."""
    made(name)[2].save(folder / 'good.json')
    return (folder / 'good.json').read_text()


def signed(content):
    """With the digest that its content has."""
    return content | {'digest': digest(content)}


TABLES = ['slices', 'attributes', 'scales', 'folds', 'removed', 'units', 'outputs']  # what decides most


class Mutator:
    """Spoils parsed JSON; ``pick(n)`` chooses a number below ``n``."""

    VALUES = [
        None, True, False, 0, 1, -1, 2, 1.5, 10**30, -(10**30), 1e308, float('nan'), float('inf'), '', 'x', '0', '0-1',
        '0-99999999999', '5-2', '0,0', '٣', [], [1], {}, {'a': 1}, [[0, '0', '0']], '9' * 5000, 'forward', '\ud800',
    ]  # fmt: skip
    RANGES = [
        '{}',
        '{},{}',
        '0-99999999999',
        '{},99999999999',
        '0',
        ' {}',
        '{}-',
        '-{}',
        '{},',
        '1,0',
        '',
        '0-0',
        '{};1',
    ]

    def __init__(self, content, pick):
        self.content, self.pick = content, pick

    def some(self, options):
        options = list(options)
        return options[self.pick(len(options))] if options else None

    def walk(self, wanted=lambda value: True):
        """A container, a key in it, of a value that is wanted; down from the top or from a table, by chance."""
        found = None
        for _ in range(20):
            here = self.content
            if self.pick(3):
                tables = [t for t in TABLES if isinstance(here.get(t), (dict, list)) and here[t]]
                here = here[self.some(tables)] if tables else here
            while isinstance(here, (dict, list)) and here:
                key = self.some(here if isinstance(here, dict) else range(len(here)))
                if wanted(here[key]) and (found is None or self.pick(3)):
                    found = here, key
                here = here[key]
            if found is not None:
                break
        return found

    def delete(self):
        box, key = self.walk() or (self.content, 'units')
        del box[key]

    def type(self):
        box, key = self.walk() or (self.content, 'units')
        box[key] = copy.deepcopy(self.some(self.VALUES))

    def number(self):
        place = self.walk(lambda v: type(v) in (int, float))
        if place:
            value = place[0][place[1]]
            place[0][place[1]] = self.some(
                [value + 1, value - 1, -value, value * 2, value // 2, 10**30, value + 0.5, 0, 1]
            )

    def range(self):
        place = self.walk(lambda v: isinstance(v, str) and v[:1].isdigit())
        if place:
            value = place[0][place[1]]
            runs = value.split(',')
            at = self.pick(len(runs))
            place[0][place[1]] = self.some(
                [','.join(runs[:at] + runs[at + 1 :]), ','.join(runs[:at]), ','.join(runs[::-1])]
                + [r.format(value, value) for r in self.RANGES]
            )

    def rename(self):
        place = self.walk(lambda v: isinstance(v, dict) and bool(v))
        box = place[0][place[1]] if place else self.content
        key = self.some(box)
        other = self.some([key + 'x', '', '0', '1', '_' + key, 'forward', 'stride', 'training', '__class__', *box])
        box[other] = box.pop(key)

    def swap(self):
        a, b = self.walk(), self.walk()
        if a and b:
            a[0][a[1]], b[0][b[1]] = copy.deepcopy(b[0][b[1]]), copy.deepcopy(a[0][a[1]])

    def swap_alike(self):
        """Two entries of one table."""
        place = self.walk(lambda v: isinstance(v, (dict, list)) and len(v) > 1)
        if place:
            box = place[0][place[1]]
            keys = list(box) if isinstance(box, dict) else list(range(len(box)))
            a, b = self.some(keys), self.some(keys)
            box[a], box[b] = box[b], box[a]

    def add(self):
        """An entry that another place has."""
        a, b = self.walk(), self.walk(lambda v: isinstance(v, (dict, list)))
        if a and b:
            box, value = b[0][b[1]], copy.deepcopy(a[0][a[1]])
            if isinstance(box, dict):
                box[str(a[1])] = value
            else:
                box.append(value)


CHANGES = ['delete', 'type', 'number', 'range', 'rename', 'swap', 'swap_alike', 'add']


def spoiled_text(text, pick):
    """Damage to the bytes: cut off, bytes replaced, a piece twice, deep nesting, a key twice."""
    data = text.encode()
    at, to = sorted((pick(len(data)), pick(len(data))))
    return [
        data[:at], data[:at] + b'\xff\xfe' + data[at + 2 :], data[:to] + data[at:], data[:at] + data[to:],
        data[:at] + b'[' * 5000 + data[at:], b'{"format": "dms_mm.structure", ' + data.strip()[1:],
        data[:at] + b'NaN' + data[at:], b'[' * 200000, b'', b'\0' * 100, data[:at] + b'1e999' + data[at:],
    ][pick(11)]  # fmt: skip


def spoil(content, change, pick):
    """Spoil parsed JSON in place; it need not differ."""
    if isinstance(content, dict) and content:
        getattr(Mutator(content, pick), change)()
