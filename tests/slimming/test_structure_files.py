"""Structure files come from elsewhere: each is told what is wrong with it, or makes a model that runs."""

import copy
import json
import os
import re
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import dms_mm
from builders.structure_files import CHANGES, MODELS, made, signed, spoil, spoiled_text, text_of
from dms_mm import Structure, StructureError
from dms_mm.slimming.schema import FIELDS

EXAMPLES = int(os.environ.get('DMS_FUZZ_EXAMPLES', 200))
# A message begins with the field, or says what the file as a whole is.
NAMED = re.compile(rf'({"|".join(FIELDS)}|digest|unknown field|structure file|.* is (not a|too large for a) .*structure)')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('structures')


@pytest.fixture(scope='module')
def little_memory(folder):
    """An address space of a gigabyte more than is in use now."""
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


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_spoiled_file_is_named_or_makes_a_model_that_runs(data, folder, little_memory):
    name = data.draw(st.sampled_from(list(MODELS)))
    how = data.draw(st.sampled_from(['as it is', 'edited', 'signed']))
    text = text_of(name, folder)
    path = folder / 'spoiled.json'

    def pick(n):
        return data.draw(st.integers(0, n - 1))

    if not pick(8):
        path.write_bytes(spoiled_text(text, pick))
    else:
        content = spoil(text, data.draw(st.sampled_from(CHANGES)), pick)
        path.write_text(json.dumps(signed(content) if how == 'signed' else content))
    found = outcome(name, path, edited=how == 'edited', example_inputs=None if how == 'as it is' else made(name)[1])
    if same_json(path.read_bytes(), text):
        assert found == 'runs'
    elif how == 'as it is':
        assert found != 'runs'
