"""Structure files come from elsewhere: each is told what is wrong with it, or makes a model that runs."""

import json
import os
import re
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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
