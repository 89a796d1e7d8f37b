"""Rows of tokens: nothing of the texts is lost or judged twice, and the cache gives the same."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('transformers')

from builders.texts import TEXTS, tokenizer_in  # noqa: E402
from dms_mm.datasets import PackedText  # noqa: E402


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return tokenizer_in(tmp_path_factory.mktemp('tokenizer'))


@pytest.mark.parametrize('stride', [None, 16, 5])
def test_every_token_is_judged_once(tokenizer, stride):
    rows = PackedText(TEXTS, tokenizer, length=32, stride=stride)
    judged = torch.cat(
        [row['data_samples'][row['data_samples'] != -100] for row in map(rows.__getitem__, range(len(rows)))]
    )
    whole = torch.from_numpy(rows.tokens).long()
    assert torch.equal(judged, whole[: len(judged)]) and len(whole) - len(judged) < 32
    for index in (0, len(rows) - 1):
        begin = index * rows.stride
        assert torch.equal(rows[index]['inputs'], whole[begin : begin + 32])
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_documents_end_and_texts_come_back(tokenizer):
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer)
    rows = PackedText(TEXTS, tokenizer, length=32)
    texts = words.decode(rows.tokens.tolist()).split('<eos>')
    assert texts == [Path(name).read_text(encoding='utf-8') for name in TEXTS] + ['']


def test_prompts_are_no_labels(tokenizer, tmp_path):
    entries = [
        dict(instruction=f'Say {k}.', input='twice' if k % 2 else '', output=f'Well, {k} it is.') for k in range(9)
    ]
    (tmp_path / 'a.json').write_text(json.dumps(entries))
    (tmp_path / 'b.jsonl').write_text('\n'.join(map(json.dumps, entries)))
    one, other = (PackedText(str(tmp_path / name), tokenizer, length=16) for name in ('a.json', 'b.jsonl'))
    assert (one.tokens == other.tokens).all() and (one.judged == other.judged).all()
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer)
    assert words.decode(one.tokens[one.judged]) == ''.join(e['output'] + '<eos>' for e in entries)
    assert '### Input:\ntwice' in words.decode(one.tokens[~one.judged])


def test_the_cache_knows_texts_and_tokenizer(tokenizer, tmp_path):
    text = tmp_path / 'text.txt'
    text.write_text('What is past is prologue. ' * 20)
    first = PackedText(str(text), tokenizer, length=8, cache=str(tmp_path / 'cache'))
    again = PackedText(str(text), tokenizer, length=16, cache=str(tmp_path / 'cache'))
    assert len(list((tmp_path / 'cache').iterdir())) == 1 and (first.tokens == again.tokens).all()
    protocol = first.metainfo['protocol']
    text.write_text('What is past is not. ' * 20)
    other = PackedText(str(text), tokenizer, length=8, cache=str(tmp_path / 'cache'))
    assert len(list((tmp_path / 'cache').iterdir())) == 2
    assert other.metainfo['protocol']['data'] != protocol['data'] and len(other.tokens) != len(first.tokens)
    assert other.metainfo['protocol']['tokenizer'] == protocol['tokenizer']


def test_the_kind_of_a_file_is_a_part_of_what_it_says(tokenizer, tmp_path):
    entries = json.dumps([dict(instruction='Say it.', input='', output='It.')] * 9, ensure_ascii=False)
    for name in ('a.txt', 'a.json'):
        (tmp_path / name).write_text(entries)
    text, asked = (
        PackedText(str(tmp_path / name), tokenizer, length=8, cache=str(tmp_path / 'cache'))
        for name in ('a.txt', 'a.json')
    )
    assert text.judged.all() and not asked.judged.all()
    assert text.metainfo['protocol']['data'] != asked.metainfo['protocol']['data']
    (tmp_path / 'b.jsonl').write_text('{"text": "one\u2028line, and one more of it"}\n \n', encoding='utf-8')
    assert len(PackedText(str(tmp_path / 'b.jsonl'), tokenizer, length=4)) > 1


@pytest.mark.parametrize('case', ['missing', 'kind', 'entry', 'short', 'stride', 'tokenizer'])
def test_errors_name_the_file(tokenizer, tmp_path, case):
    (tmp_path / 'a.txt').write_text('short')
    (tmp_path / 'a.csv').write_text('a,b')
    (tmp_path / 'a.jsonl').write_text('{"words": "none"}')
    given = dict(
        missing=('b.txt', {}, 'b.txt cannot be read'), kind=('a.csv', {}, 'a.csv: texts are'),
        entry=('a.jsonl', {}, 'a.jsonl: entry 0'), short=('a.txt', {}, r'a.txt has \d+ tokens'),
        stride=('a.txt', dict(stride=99), 'stride=99'),
        tokenizer=('a.txt', dict(tokenizer=str(tmp_path)), 'no folder of'),
    )  # fmt: skip
    name, options, message = given[case]
    with pytest.raises(ValueError, match=message):
        PackedText(str(tmp_path / name), **{'tokenizer': tokenizer, 'length': 32, **options})
