"""A language model by the tools: trained while it is searched, made slim, read by transformers, judged on a text."""

import math

import pytest
import torch
from mmengine.config import Config

transformers = pytest.importorskip('transformers')

from torch.nn import functional as F  # noqa: E402, N812

from builders.texts import TEXTS, tokenizer_in  # noqa: E402
from dms_mm.cli.inspect import inspect  # noqa: E402
from dms_mm.cli.slim import slim  # noqa: E402
from dms_mm.cli.test import test as evaluate  # noqa: E402
from dms_mm.cli.train import train  # noqa: E402
from dms_mm.models import CausalLM  # noqa: E402
from dms_mm.slimming import Structure  # noqa: E402

LENGTH = 32
TINY = dict(
    model_type='llama', vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
)  # fmt: skip


def config_file(tmp_path, tokenizer, **changes):
    rows = dict(
        type='dms_mm.PackedText', files=TEXTS, tokenizer=tokenizer, length=LENGTH, cache=str(tmp_path / 'tokens')
    )
    loader = dict(batch_size=4, num_workers=0, dataset=rows, collate_fn=dict(type='default_collate'))
    cfg = dict(
        default_scope='mmengine',
        model=dict(
            type='dms_mm.DMS',
            architecture=dict(type='dms_mm.CausalLM', config=TINY),
            input_shape=(LENGTH,),
            target=dict(params=0.6),
            space=dict(units={'*/head_dim': dict(ignore=True)}),
        ),
        train_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=20),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=3e-3)),
        test_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        test_cfg=dict(),
        test_evaluator=dict(type='dms_mm.Perplexity'),
        custom_hooks=[dict(type='dms_mm.DMSHook')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=20, by_epoch=False)),
        work_dir=str(tmp_path / 'search'),
        **changes,
    )
    path = tmp_path / 'config.py'
    Config(cfg).dump(path)
    return str(path)


def perplexity_by_hand(model, rows):
    """Of every row, each token by what stands before it."""
    total = count = 0.0
    with torch.no_grad():
        for tokens in rows:
            logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].double()
            total += float(F.cross_entropy(logits, tokens[1:], reduction='sum'))
            count += len(tokens) - 1
    return math.exp(total / count)


def test_search_slim_and_perplexity(tmp_path, capsys):
    config = config_file(tmp_path, tokenizer_in(tmp_path / 'tokenizer'))
    inspect([config, '--verify', 'shapes'])
    assert 'uniform scaling meets all targets' in capsys.readouterr().out
    train([config])
    structure = Structure.load(tmp_path / 'search/structure.json')
    assert 0.59 < structure.resources['params'] / structure.supernet['params'] <= 0.6
    out = tmp_path / 'slim'
    with pytest.raises(ValueError, match='--hf needs --checkpoint'):
        slim([config, str(tmp_path / 'search/structure.json'), '--out', str(out), '--hf', str(tmp_path / 'hf')])
    slim([
        config, str(tmp_path / 'search/structure.json'), '--checkpoint', str(tmp_path / 'search/iter_20.pth'),
        '--out', str(out), '--hf', str(tmp_path / 'hf'),
    ])  # fmt: skip
    found = evaluate([str(out / 'config.py'), str(out / 'slim.pth'), '--work-dir', str(tmp_path / 'test')])
    from dms_mm import hf

    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'hf').eval()
    assert sum(p.numel() for p in read.parameters()) == structure.resources['params']
    rows = [row['inputs'] for row in _rows(Config.fromfile(config))]
    assert found['text/perplexity'] == pytest.approx(perplexity_by_hand(read, rows), rel=1e-4)
    assert found['text/tokens'] == len(rows) * (LENGTH - 1) and f'length {LENGTH}' in found['text/protocol']
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / 'hf')('a')['input_ids']
    assert type(read) in (transformers.LlamaForCausalLM, hf.families.family('llama').model)


def _rows(cfg):
    from dms_mm.datasets import PackedText

    rows = PackedText(**{k: v for k, v in cfg.test_dataloader.dataset.items() if k not in ('type', '_scope_')})
    return [rows[k] for k in range(len(rows))]


@pytest.mark.parametrize('options, message', [
    (dict(), '`config`, options of'),
    (dict(config=dict(vocab_size=3)), 'no `model_type`'),
    (dict(config=TINY, dtype='int8'), "dtype='int8'"),
])  # fmt: skip
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        CausalLM(**options)


def test_losses_and_checkpointing():
    torch.manual_seed(0)
    model = CausalLM(config=TINY).train()
    tokens = model.example((LENGTH,))
    labels = tokens.masked_fill(torch.arange(LENGTH) < 5, -100)
    loss = model(list(tokens), list(labels), mode='loss')['loss']
    want = model.language_model(input_ids=tokens, labels=labels).loss
    assert torch.allclose(loss, want)
    loss.backward()
    saved = [p.grad.clone() for p in model.parameters()]
    twin = CausalLM(config=TINY, gradient_checkpointing=True).train()
    twin.load_state_dict(model.state_dict())
    twin(tokens, labels, mode='loss')['loss'].backward()
    assert all(torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(saved, twin.parameters()))
    told = model.eval()(tokens, labels, mode='predict')
    assert sum(t['nll'] for t in told) / sum(t['tokens'] for t in told) == pytest.approx(float(want), rel=1e-5)
