"""Slim language models as files: read in a process of their own, they write what the slim model writes."""

import json
import subprocess
import sys

import pytest
import torch

import dms_mm
from dms_mm.slimming.trials import random_keep

transformers = pytest.importorskip('transformers')
hf = pytest.importorskip('dms_mm.hf')

TINY = dict(
    vocab_size=60, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
OPTIONS = {
    'qwen3': dict(head_dim=8),
    'gemma2': dict(head_dim=8, query_pre_attn_scalar=8),
    'mistral': dict(sliding_window=None),
}
TOKENS = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
READ = """
import sys
{before}
import torch
from transformers import AutoModelForCausalLM
{after}
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
tokens = torch.tensor(eval(sys.argv[2]))
with torch.no_grad():
    print(type(model).__name__, model.generate(tokens, max_new_tokens=9, do_sample=False, min_new_tokens=9).tolist())
"""


def language_model(model_type):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **{**TINY, **OPTIONS.get(model_type, {})})
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation='eager').eval()


def slim_model(model_type, keep_of, **options):
    """With what ``keep_of(unit, random)`` says of every unit."""
    space = dms_mm.make_searchable(language_model(model_type), dict(input_ids=TOKENS, use_cache=False), **options)
    random = torch.from_numpy(random_keep(list(space.units.values()), 5, low=0.3))
    space.set_keep({u.name: keep_of(u, random[u.start : u.start + u.size]) for u in space.units.values()})
    return space.slim().eval()


def uneven(unit, random):
    """Another number of heads and of hidden channels in every layer, one layer less; heads and stream stay whole."""
    if unit.kind == 'depth':
        return torch.tensor([True, False, True])
    return random if unit.kind == 'head' or 'mlp' in unit.name else torch.ones(unit.size, dtype=torch.bool)


def even(unit, random):
    return 2 if unit.kind == 'depth' else 1 if unit.kind == 'head' else 24 if 'mlp' in unit.name else unit.size


def written(model):
    with torch.no_grad():
        return model.generate(TOKENS, max_new_tokens=9, do_sample=False, min_new_tokens=9, use_cache=False).tolist()


def read(folder, before='', after=''):
    code = READ.format(before=before, after=after)
    command = [sys.executable, '-W', 'ignore', '-c', code, str(folder), str(TOKENS.tolist())]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize('model_type', sorted(hf.FAMILIES))
def test_uneven_layers_are_read_by_their_own_class(model_type, tmp_path):
    slim = slim_model(model_type, uneven, units={'*/head_dim': dict(ignore=True)})
    again = hf.save_slim(slim, tmp_path / 'slim')
    assert type(again).__name__.startswith('Dms') and again.config.num_hidden_layers == 2
    assert json.loads((tmp_path / 'slim/config.json').read_text())['per_layer_config']
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in slim.parameters())
    assert written(again.eval()) == written(slim)
    copy = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'slim').eval()
    copy.set_attn_implementation('eager')
    assert written(copy) == written(slim)
    assert [p.name for p in tmp_path.iterdir()] == ['slim']


def test_a_fresh_process_needs_the_import_and_no_mmengine(tmp_path):
    slim = slim_model('llama', uneven)
    hf.save_slim(slim, tmp_path)
    found = read(tmp_path, "sys.modules['mmengine'] = None", 'import dms_mm.hf')
    assert found.stdout.strip() == f'DmsLlamaForCausalLM {written(slim)}', found.stderr[-2000:]
    without = read(tmp_path)
    assert without.returncode and 'dms_llama' in without.stderr


@pytest.mark.parametrize('model_type', ['llama', 'qwen3'])
def test_equal_layers_are_read_without_us(model_type, tmp_path):
    slim = slim_model(model_type, even)
    hf.save_slim(slim, tmp_path)
    found = read(tmp_path, "sys.modules['dms_mm'] = None")
    assert found.stdout.strip() == f'{type(slim).__name__} {written(slim)}', found.stderr[-2000:]


@pytest.mark.parametrize('skipped', [('attention',), ('mlp',), ('attention', 'mlp')])
def test_sub_layers_are_left_out_and_texts_go_on(skipped, tmp_path):
    model = language_model('llama')
    for name in skipped:
        hf.layers.leave_out(model.model.layers[0], name, 0)
    again = hf.save_slim(model, tmp_path).eval()
    assert again.config.per_layer_config[0].skip == sorted(skipped)
    with torch.no_grad():
        cached = again.generate(TOKENS, max_new_tokens=9, do_sample=False, min_new_tokens=9).tolist()
    assert cached == written(model) == written(again)
    # The plain class, which knows nothing of the entry, must not fill the gap with fresh weights.
    plain = read(tmp_path, after='from transformers import LlamaForCausalLM as AutoModelForCausalLM')
    assert plain.returncode and 'num_attention_heads' in plain.stderr or 'intermediate_size' in plain.stderr


@pytest.mark.parametrize('case', ['head_dim', 'stream'])
def test_what_no_configuration_says_is_refused(case, tmp_path):
    """Which rotary pairs are left, and a scale by a width that is gone, are in no file."""
    kind = 'llama' if case == 'head_dim' else 'gemma2'
    chosen = (lambda u: u.kind == 'head_dim') if case == 'head_dim' else (lambda u: 'embed' in u.name)
    slim = slim_model(kind, lambda u, random: u.size // 2 if chosen(u) else u.size)
    with pytest.raises(ValueError, match='differs by .* of the largest logit'):
        hf.save_slim(slim, tmp_path / 'slim')
    assert not list(tmp_path.iterdir())


def test_half_precision_hides_no_wrong_scale(tmp_path):
    """Logits alone would not tell: rounding is as large."""
    slim = slim_model('llama', lambda u, random: u.size // 2 if u.kind == 'head_dim' else u.size).bfloat16()
    with pytest.raises(ValueError, match=r'scaling is 0\.35.*, there 0\.5'):
        hf.save_slim(slim, tmp_path / 'slim')
    whole = slim_model('llama', uneven, units={'*/head_dim': dict(ignore=True)}).bfloat16()
    assert hf.save_slim(whole, tmp_path / 'whole').dtype == torch.bfloat16


def test_what_was_read_is_slimmed_again(tmp_path):
    once = hf.save_slim(slim_model('llama', uneven, units={'*/head_dim': dict(ignore=True)}), tmp_path / 'once').eval()
    space = dms_mm.make_searchable(once, dict(input_ids=TOKENS, use_cache=False))
    space.set_keep({'model.layers/depth': torch.tensor([False, True])})
    twice = space.slim().eval()
    again = hf.save_slim(twice, tmp_path / 'twice').eval()
    # One layer is left, so that all are alike.
    assert type(again) is transformers.LlamaForCausalLM and written(again) == written(twice)


def test_other_models_are_refused(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60)
    with pytest.raises(ValueError, match='layers'):
        hf.save_slim(transformers.GPT2LMHeadModel(config), tmp_path / 'slim')
