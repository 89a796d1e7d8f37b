"""Texts as rows of token numbers of one length."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..registry import DATASETS

IGNORED = -100
PROMPT = (
    'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n'
    '### Instruction:\n{instruction}\n\n'
)
INPUT = '### Input:\n{input}\n\n'
RESPONSE = '### Response:\n'
NAMES = ('tokenizer', 'vocab', 'merges', 'special', 'added', 'spiece')  # of a tokenizer's files
VERSION = '1'  # of how documents are packed


@DATASETS.register_module()
class PackedText(Dataset):
    """Documents one after the other, each ended by the tokenizer's end of a text, cut into rows of ``length`` tokens.

    A sample is ``inputs`` (length,) int64 and ``data_samples`` (length,) int64, its labels: the tokens, and -100 where
    none is to be predicted. What is left at the end and fills no row is dropped.

    Args:
        files: plain text (``.txt``, ``.md``: a document each), JSON lines (``.jsonl``: ``text``, or ``instruction``,
            ``input`` and ``output`` as Alpaca has them, whose prompts are no labels), or JSON (``.json``: a list of
            such).
        tokenizer: local folder of a tokenizer of transformers.
        length: of a row.
        stride: between the begins of rows; with less than ``length`` what a row repeats is context alone, no label.
        cache: folder in which tokens are kept, by a digest of texts and tokenizer; None tokenizes every time.

    Attributes:
        metainfo: ``protocol``: length, stride, and the first 12 digits of SHA-256 of texts and of the tokenizer.

    Raises:
        ValueError: no file, an unknown kind of file or entry, or texts too short for a row; names the file.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        tokenizer: str,
        length: int = 128,
        stride: int | None = None,
        cache: str | None = None,
    ) -> None:
        self.files = [Path(f) for f in ([files] if isinstance(files, (str, os.PathLike)) else files)]
        if not self.files:
            raise ValueError('PackedText has no files')
        self.length, self.stride = int(length), int(length if stride is None else stride)
        if not 0 < self.stride <= self.length or self.length < 2:
            raise ValueError(f'length={length} must be at least 2, and stride={stride} from 1 to it')
        # What packs them is a part of what they become.
        texts, words = hashlib.sha256('\0'.join((VERSION, PROMPT, INPUT, RESPONSE)).encode()), _digest_of(tokenizer)
        for file in self.files:
            texts.update(file.suffix.encode() + b'\0' + hashlib.sha256(_read(file)).digest())
        self.metainfo = dict(
            protocol=dict(length=self.length, stride=self.stride, data=texts.hexdigest()[:12], tokenizer=words[:12])
        )
        place = None
        if cache is not None:
            place = Path(cache) / f'{hashlib.sha256((texts.hexdigest() + words).encode()).hexdigest()[:24]}.npy'
        self.tokens, self.judged = self._kept(place, tokenizer)
        if len(self) < 1:
            raise ValueError(f'{self.files[0]} has {len(self.tokens)} tokens, less than one row of {self.length}')

    def _kept(self, place: Path | None, tokenizer: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and whether each is to be predicted, from the cache where it has them."""
        if place is not None and place.exists():
            both = np.load(place)
        else:
            both = _tokenized(self.files, tokenizer)
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                temporary = place.with_name(f'.{place.name}.{os.getpid()}.tmp.npy')
                np.save(temporary, both)
                os.replace(temporary, place)
        return both[0], both[1].astype(bool)

    def __len__(self) -> int:
        return max(0, (len(self.tokens) - self.length) // self.stride + 1)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = slice(index * self.stride, index * self.stride + self.length)
        inputs = torch.from_numpy(self.tokens[row].astype(np.int64))
        labels = torch.where(torch.from_numpy(self.judged[row]), inputs, IGNORED)
        if index:
            labels[: self.length - self.stride] = IGNORED
        return dict(inputs=inputs, data_samples=labels)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f'{file} cannot be read: {error.strerror}') from error


def _digest_of(folder: str) -> str:
    """SHA-256 of the files that make a tokenizer."""
    files = sorted(p for p in Path(folder).glob('*') if p.name.startswith(NAMES))
    if not files:
        raise ValueError(f'{folder} is no folder of a tokenizer: it has no tokenizer.json')
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b'\0' + file.read_bytes())
    return found.hexdigest()


def _tokenized(files: Sequence[Path], tokenizer: str) -> np.ndarray:
    """(2, N) int32: tokens, and 1 where one is to be predicted."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    end = [] if words.eos_token_id is None else [words.eos_token_id]
    tokens: list[int] = []
    judged: list[int] = []
    for file in files:
        for prompt, text in _documents(file):
            # Apart, so that no token joins the end of a prompt and the answer.
            before = words(prompt)['input_ids'] if prompt else []
            after = words(text, add_special_tokens=not prompt)['input_ids'] + end
            tokens += before + after
            judged += [0] * len(before) + [1] * len(after)
    return np.array([tokens, judged], dtype=np.int32)


def _documents(file: Path) -> Iterator[tuple[str, str]]:
    """(prompt, text) of every document; the prompt is not to be predicted."""
    text = _read(file).decode('utf-8')
    if file.suffix in ('.txt', '.md'):
        yield '', text
        return
    if file.suffix not in ('.json', '.jsonl'):
        raise ValueError(f'{file}: texts are .txt, .md, .json or .jsonl')
    try:
        entries = json.loads(text) if file.suffix == '.json' else [json.loads(x) for x in text.split('\n') if x.strip()]
    except ValueError as error:
        raise ValueError(f'{file} is no {file.suffix[1:]}: {error}') from error
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and isinstance(entry.get('text'), str):
            yield '', entry['text']
        elif isinstance(entry, dict) and isinstance(entry.get('instruction'), str) and 'output' in entry:
            more = INPUT.format(input=entry['input']) if entry.get('input') else ''
            yield PROMPT.format(instruction=entry['instruction']) + more + RESPONSE, str(entry['output'])
        else:
            raise ValueError(f'{file}: entry {number} has neither `text` nor `instruction` and `output`')
