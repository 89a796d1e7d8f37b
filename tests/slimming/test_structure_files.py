"""Structure files come from elsewhere: each is told what is wrong with it, or makes a model that runs."""

import json
import os
import re
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import dms_mm
from builders.structure_files import CHANGES, MODELS, made, signed, spoil, spoiled_text, text_of
from dms_mm import StructureError
from dms_mm.slimming.schema import FIELDS

EXAMPLES = int(os.environ.get('DMS_FUZZ_EXAMPLES', 200))
# A message begins with the field, or says what the file as a whole is.
NAMED = re.compile(rf'({"|".join(FIELDS)}|format|version|digest|unknown field|structure file)\b|.* is (not|too large)')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('structures')


@pytest.fixture(scope='module')
def little_memory():
    """An address space of a gigabyte more than what the good files need."""
    for name in MODELS:
        model, inputs, structure = made(name)
        dms_mm.build_slim(model, structure, example_inputs=inputs)(inputs)
    old = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, old)


def state_of(model):
    """Everything of a model that building could change."""
    return [
        (path, id(module), {k: repr(v) for k, v in vars(module).items() if not k.startswith('_')},
         list(module._modules), [(k, id(x)) for k, x in [*module._parameters.items(), *module._buffers.items()]])
        for path, module in model.named_modules()
    ]  # fmt: skip


def outcome(name, path, **options):
    """'runs', or the message of a StructureError that left the model as it was; all else is raised."""
    model, inputs, _ = made(name)
    before = state_of(model)
    try:
        slim = dms_mm.build_slim(model, path, **options)
    except StructureError as error:
        assert state_of(model) == before
        assert NAMED.match(str(error)), error
        assert len(str(error)) < 2000
        return str(error)
    for training in (False, True):
        slim.train(training)
        slim(inputs)
    return 'runs'


def same_json(data, text):
    try:
        return json.dumps(json.loads(data), sort_keys=True) == json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return False


def check_spoiled(name, how, changes, pick, folder):
    """Spoil a file, and read it: as it is, as an edited one, or with the digest that fits."""
    text = text_of(name, folder)
    path = folder / 'spoiled.json'
    options = dict(edited=how == 'edited', example_inputs=None if how == 'as it is' else made(name)[1])
    if not changes:
        path.write_bytes(spoiled_text(text, pick))
        found = outcome(name, path, **options)
    else:
        content = json.loads(text)
        for change in changes:
            spoil(content, change, pick)
        path.write_text(json.dumps(signed(content) if how == 'signed' else content))
        found = outcome(name, path, **options)
        count = re.search(r'where the structure makes (\d+)', found)
        if count and how != 'as it is':
            # Whoever changes a file by hand may count right.
            content['resources']['params'] = int(count.group(1))
            path.write_text(json.dumps(signed(content) if how == 'signed' else content))
            found = outcome(name, path, **options)
    if same_json(path.read_bytes(), text):
        assert found == 'runs' or 'comes twice' in found
    elif how == 'as it is':
        assert found != 'runs'
    return found


@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)  # fmt: skip
@given(data=st.data())
def test_a_spoiled_file_is_named_or_makes_a_model_that_runs(data, folder, little_memory):
    name = data.draw(st.sampled_from(list(MODELS)))
    how = data.draw(st.sampled_from(['as it is', 'edited', 'signed']))
    changes = data.draw(st.lists(st.sampled_from(CHANGES), max_size=2))
    check_spoiled(name, how, changes, lambda n: data.draw(st.integers(0, n - 1)), folder)


def change(name, folder, edit):
    """A good file of a model, edited and with a digest that fits."""
    content = json.loads(text_of(name, folder))
    edit(content)
    path = folder / 'changed.json'
    path.write_text(json.dumps(signed(content)))
    return path


def put(value, *keys):
    """An edit that sets ``content[keys[0]][keys[1]]...``; a key that is None is the first there is."""

    def edit(content):
        for key in keys[:-1]:
            content = content[next(iter(content)) if key is None else key]
        content[keys[-1]] = value

    return edit


RESIDUAL, FOLDS = 'residual blocks', 'folds and blocks out of a list'
HEADS, ATTENTION = 'stored head counts', 'nn.MultiheadAttention'
GROUPED = 'grouped convolutions, squeeze and excitation'
CONV, BIAS, FINAL = 'layer1.0.conv1.weight', 'layer1.0.bn1.bias', '2.final.weight'
WRONG = {
    'a range without end': (RESIDUAL, put('0-99999999999', 'slices', CONV, '0'),
                            f"slices['{CONV}'][0]: position 99999999999 is outside of a size of 64"),
    'positions twice': (RESIDUAL, put('3,3', 'slices', CONV, '0'), f"slices['{CONV}'][0]: positions must grow"),
    'nothing left': (RESIDUAL, put('', 'slices', CONV, '0'), f"slices['{CONV}'][0]: no position is left"),
    'other digits': (RESIDUAL, put('٣', 'slices', CONV, '0'), f"slices['{CONV}'][0]: '٣' is no list"),
    'a fifth dimension': (RESIDUAL, put('0', 'slices', CONV, '4'), f"slices['{CONV}'][4]: a tensor of shape"),
    'a shape of its own': (RESIDUAL, put(10**9, 'shapes', CONV, 0), f"shapes['{CONV}']: parameter"),
    'a bias apart from its weight': (RESIDUAL, put('0', 'slices', BIAS, '0'), f"slices['{BIAS}']: (1,) is kept"),
    'a number for a text': (RESIDUAL, put(3, 'slices', CONV, '0'), f"slices['{CONV}'][0]: "),
    'a truth for a number': (RESIDUAL, put(True, 'parameters'), 'parameters: '),
    'a block twice': (RESIDUAL, lambda c: c['removed'].append(c['removed'][0]), 'removed: '),
    'a block inside of a removed one': (RESIDUAL, lambda c: c['removed'].append(c['removed'][0] + '.bn1'), 'removed['),
    'more blocks than units lose': (RESIDUAL, lambda c: c['removed'].append('layer1.0.relu'), 'removed: 3'),
    'a slice of what is removed': (RESIDUAL, put('layer1', 'removed', 0), "slices['layer1."),
    'a block that stays is dropped': (RESIDUAL, put(['layer1.0'], 'dropped'), 'dropped[0]'),
    'a block is dropped out of a sequence': (RESIDUAL, lambda c: c['dropped'].append(c['removed'][0]), 'dropped: '),
    'a fold of itself': (FOLDS, put('16-23', 'folds', FINAL, 0, 1), f"folds['{FINAL}'][0]: positions are added"),
    'a fold of another length': (FOLDS, put('8-9', 'folds', FINAL, 0, 1), f"folds['{FINAL}'][0]: 8 positions are"),
    'a fold of what stays': (FOLDS, put('0-31', 'slices', FINAL, '1'), f"folds['{FINAL}'][0]: positions that"),
    'a factor without bounds': (ATTENTION, put(1e300, 'scales', None, 0, 2), "scales['encoder."),
    'too many factors': (ATTENTION, put([[0, '0', 2.0]] * 300, 'scales', 'x'), "scales['x']: 300 entries"),
    'a unit beyond its size': (RESIDUAL, put('0-64', 'units', None, 'keep'), "units['conv1']['keep']: position 64"),
    'a unit of nothing': (RESIDUAL, put('', 'units', None, 'keep'), "units['conv1']['keep']: nothing is kept"),
    'no units': (RESIDUAL, lambda c: c.pop('units'), 'units: missing'),
    'heads that do not make the width': (ATTENTION, put(1, 'attributes', None, 'num_heads'), "attributes['encoder."),
    'groups that do not divide': (GROUPED, put(7, 'attributes', None, 'groups'), "slices['layer1.0.conv2.weight']: "),
    'another count': (RESIDUAL, put(5, 'resources', 'params'), "resources['params']: 5 parameters, where"),
    'a newer version': (RESIDUAL, put(4, 'version'), 'version: '),
}  # fmt: skip


@pytest.mark.parametrize('case', list(WRONG))
def test_the_field_at_fault_is_named(case, folder):
    name, edit, message = WRONG[case]
    found = outcome(name, change(name, folder, edit))
    assert found.startswith(message), found


@pytest.mark.parametrize(
    ('module', 'attribute', 'value'),
    [
        ('blocks.0.attn', 'forward', 1),
        ('blocks.0.attn', '__class__', 1),
        ('blocks.0.attn', 'training', 0),
        ('blocks.0.attn', '_modules', 1),
        ('blocks.0.attn', 'qkv', 1),
        ('blocks.0.attn', 'scale', 1),
        ('blocks.0.attn', 'fused_attn', 1),
        ('blocks.0.attn', 'nothing', 1),
        ('blocks.0.attn', 'num_heads', 5),
        ('blocks.0.attn', 'num_heads', 0),
        ('blocks.0.attn', 'num_heads', -2),
        ('blocks.0.attn', 'num_heads', 2.0),
        ('blocks.0.attn', 'num_heads', True),
        ('blocks.0.attn', 'num_heads', 'print'),
        ('blocks.0.attn', 'num_heads', [2]),
        ('blocks.0.attn', 'num_heads', 10**30),
        ('patch_embed.proj', 'stride', [1, 1]),
        ('patch_embed.proj', 'kernel_size', [1, 1]),
        ('patch_embed', 'img_size', [32]),
        ('norm', 'eps', 1),
        ('norm', 'normalized_shape', [25]),
        ('norm', 'normalized_shape', [0]),
    ],
)
def test_attributes_are_sizes_that_a_module_has(folder, module, attribute, value):
    path = change(HEADS, folder, lambda c: c['attributes'].setdefault(module, {}).update({attribute: value}))
    assert outcome(HEADS, path).startswith(f"attributes['{module}']['{attribute}']: ")


def test_a_property_of_a_class_is_no_attribute(folder):
    model, _, structure = made(HEADS)
    kind = type(model.blocks[0].attn)
    model.blocks[0].attn.__class__ = type(
        'Sly', (kind,), {'num_heads': property(lambda self: 4, lambda self, v: exit(v))}
    )
    with pytest.raises(StructureError, match=r"attributes\['blocks.0.attn'\]\['num_heads'\]: Sly has no such number"):
        dms_mm.build_slim(model, structure)


def test_an_edited_file_is_told_apart_and_tried(folder, tmp_path):
    text = text_of(FOLDS, folder)
    path = tmp_path / 'edited.json'
    # The same content in another order and without spaces is no change.
    path.write_text(json.dumps(dict(sorted(json.loads(text).items()))))
    assert outcome(FOLDS, path) == 'runs'
    content = json.loads(text)
    content['units']['2.main']['kind'] = 'head'
    path.write_text(json.dumps(content))
    inputs = made(FOLDS)[1]
    assert outcome(FOLDS, path).startswith('digest: structure file')
    assert 'give `example_inputs`' in outcome(FOLDS, path, edited=True)
    assert 'was changed' in outcome(FOLDS, path, example_inputs=inputs)
    assert outcome(FOLDS, path, edited=True, example_inputs=inputs) == 'runs'
    # Written again, it is a file like any other.
    structure = dms_mm.Structure.load(path, edited=True)
    structure.save(path)
    assert outcome(FOLDS, path) == 'runs' and dms_mm.Structure.load(path) == structure
    # All parameters of a layer agree, but not with the next one's.
    content = json.loads(text)
    for name in ('weight', 'bias'):
        content['slices'][f'2.main.{name}']['0'] = '0,1,8,9'
    path.write_text(json.dumps(content))
    found = outcome(FOLDS, path, edited=True, example_inputs=inputs)
    content['resources']['params'] = int(re.search(r'makes (\d+)', found).group(1))
    path.write_text(json.dumps(content))
    found = outcome(FOLDS, path, edited=True, example_inputs=inputs)
    assert 'the slim model does not run in eval mode' in found


class Table(nn.Module):
    """A table of 8 rows, looked up by a buffer of indices, beside a convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.table = nn.Parameter(torch.randn(8, 6))
        self.register_buffer('index', torch.arange(8))

    def forward(self, x):
        return self.out(self.stem(x) + self.table[self.index].mean(0)[:, None, None])


def test_a_table_that_is_too_short_and_indices_are_told(tmp_path):
    torch.manual_seed(0)
    space = dms_mm.make_searchable(Table(), torch.randn(2, 3, 4, 4))
    space.set_keep({'stem': 4})
    space.structure().save(tmp_path / 'good.json')
    inputs = torch.randn(2, 3, 4, 4)
    content = json.loads((tmp_path / 'good.json').read_text())
    assert content['slices']['table'].keys() == {'1'}
    dms_mm.build_slim(Table(), tmp_path / 'good.json', example_inputs=inputs)(inputs)
    content['slices']['table']['0'] = '0-5'
    content['resources']['params'] -= 2 * 4
    (tmp_path / 'bad.json').write_text(json.dumps(signed(content)))
    with pytest.raises(
        StructureError, match=r"^slices\['table'\]: the slim model does not run in eval mode.*IndexError"
    ):
        dms_mm.build_slim(Table(), tmp_path / 'bad.json', example_inputs=inputs)
    content['slices']['index'], content['shapes']['index'] = {'0': '0-5'}, [8]
    (tmp_path / 'bad.json').write_text(json.dumps(signed(content)))
    with pytest.raises(StructureError, match=r"^slices\['index'\]: holds indices"):
        dms_mm.build_slim(Table(), tmp_path / 'bad.json', example_inputs=inputs)


def test_a_file_of_version_1_loads(folder, tmp_path):
    content = json.loads(text_of(FOLDS, folder)) | {'version': 1}
    del content['digest'], content['folds'], content['dropped']
    content.update(folds=made(FOLDS)[2].folds, dropped=made(FOLDS)[2].dropped)
    path = tmp_path / 'old.json'
    path.write_text(json.dumps(content))
    assert dms_mm.Structure.load(path) == made(FOLDS)[2] and outcome(FOLDS, path) == 'runs'
    del content['outputs']
    path.write_text(json.dumps(content))
    assert outcome(FOLDS, path) == 'runs', 'files of earlier days lack some fields'
    path.write_text(json.dumps(content | {'digest': 'x'}))
    assert "unknown field 'digest'" in outcome(FOLDS, path)


def test_files_that_no_structure_could_have_are_not_read(tmp_path, little_memory):
    path = tmp_path / 'large.json'
    with open(path, 'wb') as file:
        file.truncate(1 << 40)
    assert 'too large' in outcome(RESIDUAL, path)
    path.write_text('{"format": "dms_mm.structure", "removed": [' + '[],' * 2_000_000 + '0]}')
    assert 'too large' in outcome(RESIDUAL, path)
    path.write_text('{"format": "dms_mm.structure", "version": 1, "removed": [' + '1,' * 5_000_000 + '1]}')
    assert outcome(RESIDUAL, path).startswith('removed[0]: ')
    many = ','.join(f'"{k}":0' for k in range(900_000))
    path.write_text('{"format": "dms_mm.structure", "version": 1, "slices": {' + many + '}}')
    assert outcome(RESIDUAL, path).startswith('slices[0]: ')


def test_a_structure_made_in_memory_is_checked_as_well():
    model, _, structure = made(RESIDUAL)
    structure.slices[CONV]['0'] = '0-64'
    with pytest.raises(StructureError, match='outside of a size of 64'):
        dms_mm.build_slim(model, structure)
    with pytest.raises(StructureError, match='outside of a size of 64'):
        structure.save('/nowhere/structure.json')
