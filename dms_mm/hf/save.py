"""A slim model of transformers as a folder that ``from_pretrained`` reads."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from .families import family, plain_class, plain_config, plain_type
from .widths import decoder_layers, is_gone, layer_widths, stream_width

TOKENS = 16  # of the text by which what was read is compared
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}


def save_slim(model: PreTrainedModel, folder: str | os.PathLike[str], tokenizer: Any = None) -> PreTrainedModel:
    """Write a slim causal language model: configuration, generation configuration, safetensors.

    Blocks that are gone leave no layer behind: the others are numbered anew. Where all layers are alike, the files are
    those of the plain architecture; else they have a ``model_type`` of their own, see :mod:`dms_mm.hf`. What was
    written is read again by ``from_pretrained`` and has to compute what ``model`` does before it gets its place.

    Args:
        model: what ``slim()`` or ``build_slim`` made of a ``...ForCausalLM`` of transformers.
        folder: made if it is not there; files of the same names in it are replaced.
        tokenizer: of the model, saved beside it; anything with ``save_pretrained``.

    Returns:
        The model as ``from_pretrained`` reads it, on the device of ``model``.

    Raises:
        ValueError: the structure is none that a configuration can say; names what differs. Nothing is written then.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as place:
        rebuild(model).save_pretrained(place)
        if tokenizer is not None:
            tokenizer.save_pretrained(place)
        read = AutoModelForCausalLM.from_pretrained(place, dtype=model.dtype).to(model.device)
        read.train(model.training)
        _compare(model, read)
        folder.mkdir(exist_ok=True)
        for file in sorted(Path(place).iterdir()):
            os.replace(file, folder / file.name)
    return read


def rebuild(model: PreTrainedModel) -> PreTrainedModel:
    """The slim model built from a configuration, as :func:`save_slim` writes it; buffers that no file has are empty."""
    old = decoder_layers(model)
    kept = [index for index, layer in enumerate(old) if not is_gone(layer)]
    if not kept:
        raise ValueError('no decoder layer is left: such a model has no file')
    config = plain_config(model.config)
    config.hidden_size = stream_width(model)
    widths = [layer_widths(old[index], config, index) for index in kept]
    _number_layers(config, kept)
    alike = all(w == widths[0] for w in widths) and not widths[0].get('skip')
    new = _plain(plain_class(type(model)), config, widths[0]) if alike else None
    if new is None:
        new = _by_layer(config, widths)
    state = {_renamed(name, kept): x for name, x in model.state_dict().items()}
    _fill(new, {name: x for name, x in state.items() if name}, model)
    return new


def _number_layers(config: Any, kept: list[int]) -> None:
    """Whatever a configuration lists for each layer, for those that are left."""
    count = config.num_hidden_layers
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)


def _plain(cls: type[PreTrainedModel], config: Any, widths: dict[str, Any]) -> PreTrainedModel | None:
    """The plain architecture with equal widths, if its configuration takes them."""
    config = copy.deepcopy(config)
    for name, value in widths.items():
        setattr(config, name, value)
    try:
        config.validate()
    except (ValueError, StrictDataclassError):
        return None
    with torch.device('meta'):
        return cls(config)


def _by_layer(config: Any, widths: list[dict[str, Any]]) -> PreTrainedModel:
    classes = family(plain_type(config))
    content = {**config.to_dict(), 'model_type': classes.config.model_type}
    for name in sorted({name for w in widths for name in w} - {'skip'}):
        # One that is equal in all layers, the size of heads for instance, needs no entry.
        content[name] = max(w[name] for w in widths if name in w)
    content['per_layer_config'] = dict(enumerate(widths))
    new = classes.config.from_dict(content)
    new._attn_implementation = config._attn_implementation
    with torch.device('meta'):
        return classes.model(new)


def _renamed(name: str, kept: list[int]) -> str:
    """The name of a parameter once layers are numbered anew; empty in a layer that is gone."""
    prefix, found, rest = name.partition('layers.')
    number, _, rest = rest.partition('.')
    if not found or not number.isdigit() or not (prefix == '' or prefix.endswith('.')):
        return name
    return f'{prefix}layers.{kept.index(int(number))}.{rest}' if int(number) in kept else ''


def _fill(new: PreTrainedModel, state: dict[str, torch.Tensor], model: PreTrainedModel) -> None:
    """Take the weights of ``state`` where names and shapes are the same, and all of them are."""
    expected = new.state_dict()
    for name in sorted({*expected, *state}):
        have, want = (tuple(x[name].shape) if name in x else None for x in (state, expected))
        if have != want:
            raise ValueError(f'{name} of the slim model is {have}, where a configuration of transformers makes {want}')
    # What is written shares the weights of the slim model: a copy would need their memory again.
    new.load_state_dict(state, assign=True)
    new.tie_weights()
    new.train(model.training)
    new.generation_config = copy.deepcopy(model.generation_config)


def _compare(model: PreTrainedModel, read: PreTrainedModel) -> None:
    """What is in no file, such as the frequencies of rotary positions or the scale of scores, is made anew by a
    configuration: the numbers tell whether it is the same."""
    tokens = torch.randint(model.config.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _evaluating(model), _evaluating(read):
        want, have = (m(input_ids=tokens.to(m.device), use_cache=False).logits.double() for m in (model, read))
    suspects = _suspects(model, read)
    worst = float((have - want).abs().max() / want.abs().max().clamp_min(1e-30))
    # In half precision a wrong scale may hide among the rounding.
    if suspects or not worst <= ROUNDING[model.dtype]:
        raise ValueError(
            f'as its configuration says it, the slim model differs by {worst:.1e} of the largest logit: '
            f'{suspects or "no number that it keeps differs"}. Keep the size of heads, and where embeddings are scaled '
            'the stream, whole'
        )


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    try:
        yield model.eval() and None
    finally:
        model.train(training)


def _suspects(model: PreTrainedModel, read: PreTrainedModel) -> str:
    """The first three numbers and unsaved buffers that differ between modules of one name."""
    old, new = dict(model.named_modules()), dict(read.named_modules())
    found = []
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        found += [
            f'{name}.{key} is {value:g}, there {vars(b)[key]:g}'
            for key, value in vars(a).items()
            if type(value) is float and type(vars(b).get(key)) is float and value != vars(b)[key]
        ]
        for key in a._non_persistent_buffers_set:
            x, y = a._buffers[key], b._buffers.get(key)
            if x is not None and (y is None or x.shape != y.shape or not _equal(x, y)):
                found.append(f'{name}.{key} is another')
    return '; '.join(found[:3])


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """But for the rounding of the coarser of two dtypes, which a cast of the model may have left."""
    if not a.is_floating_point():
        return torch.equal(a, b.to(a.device))
    rounding = 2 * max(torch.finfo(x.dtype).eps for x in (a, b))
    return torch.allclose(a.double(), b.double().to(a.device), rtol=rounding, atol=0.0)
