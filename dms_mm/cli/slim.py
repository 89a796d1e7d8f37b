"""Structure + checkpoint -> slim weights, config and ONNX."""

from __future__ import annotations

import argparse
import os
import os.path as osp
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn
from torch.utils._pytree import tree_flatten

from ..models import SlimModel
from ..models.build import build_architecture
from ..models.checkpoint import read_checkpoint
from ..models.example import example_of
from ..models.slim import trial
from ..slimming import Structure, build_slim
from .common import add_common, load_config, tool

HELP = """Turn what a search found into files that stand alone.

  python tools/slim.py configs/demo/search.py work_dirs/search/structure.json \\
      --checkpoint work_dirs/search/epoch_2.pth --out slim --onnx

CONFIG is the search's or the retrain's config. The checkpoint may be the search's (its weights are made slim), a
retrained slim model's, or missing (no weights are written then). Written to --out: slim.pth (a plain state_dict),
structure.json, config.py (the retrain config on the slim model), and model.onnx, which is run in ONNX Runtime and
compared with the slim model. --hf FOLDER writes a language model as `from_pretrained` reads it.

A structure file that was changed after the search wrote it is refused. --edited takes it, if it passes all other checks
and its slim model runs on an input of the config's `input_shape`; the structure.json in --out is then a valid one.
"""


def export_onnx(model: nn.Module, example: torch.Tensor, path: str) -> float:
    """Export ``model(example)`` with a free batch dimension, run it in ONNX Runtime, return the largest difference.

    Raises:
        RuntimeError: ONNX Runtime gives other outputs (over 1e-3 of the largest).
    """
    import onnxruntime

    model.eval()
    with torch.no_grad():
        expected = model(example)
    batch = torch.export.Dim('batch', min=1)
    torch.onnx.export(
        model, (example,), path, dynamo=True, input_names=['input'],
        dynamic_shapes=({0: batch},), external_data=False, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    outputs = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    leaves = [x for x in tree_flatten(expected)[0] if isinstance(x, torch.Tensor)]
    if len(leaves) != len(outputs):
        raise RuntimeError(f'ONNX Runtime gives {len(outputs)} outputs, the slim model {len(leaves)}')
    worst = 0.0
    for a, b in zip(leaves, outputs):
        worst = max(worst, float(np.abs(a.numpy() - b).max() / max(float(a.abs().max()), 1e-12)))
    if worst > 1e-3:
        raise RuntimeError(f'ONNX Runtime differs from the slim model by {worst:.1e} of the largest output')
    return worst


class TensorForward(nn.Module):
    """A host model as a function of one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.model(inputs, mode='tensor')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='tools/slim.py', description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common(parser)
    parser.add_argument('structure', help='structure.json of the search')
    parser.add_argument('--checkpoint', help='checkpoint of the supernet or of the slim model')
    parser.add_argument('--out', default='slim', help='folder to write to (default: slim)')
    parser.add_argument(
        '--edited', action='store_true', help='accept a structure file that was changed by hand, if what it makes runs'
    )
    parser.add_argument(
        '--renumber', action='store_true', help='number the kept blocks of every list from 0 on, without gaps'
    )
    parser.add_argument('--onnx', action='store_true', help='also export ONNX, checked in ONNX Runtime')
    parser.add_argument('--hf', metavar='FOLDER', help='also write a language model for `from_pretrained`')
    parser.add_argument(
        '--input-shape', type=int, nargs='+', metavar='N', help='of one sample, for --onnx and --edited'
    )
    return parser


def slim(argv: list[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    cfg = load_config(args)
    structure = Structure.load(args.structure, args.edited)
    structure.renumber = args.renumber or structure.renumber
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.get('default_scope', 'mmengine'))
    architecture = cfg.model.get('architecture')
    if architecture is None:
        raise ValueError(f'{args.config} is no search or retrain config: its model has no `architecture`')
    shape = args.input_shape or cfg.model.get('input_shape')
    if shape is None and (args.onnx or structure.changed):
        raise ValueError(f'{"--onnx" if args.onnx else "--edited"} needs --input-shape, as the config names none')
    preprocessor = cfg.model.get('data_preprocessor', cfg.get('data_preprocessor'))
    if args.hf and not args.checkpoint:
        raise ValueError('--hf needs --checkpoint: without one its files would hold weights that nobody trained')
    state = read_checkpoint(args.checkpoint) if args.checkpoint else None
    tried = shape if structure.changed else None
    if state is None:
        model = SlimModel(architecture, structure, data_preprocessor=preprocessor, input_shape=tried)
    else:
        weights = state.get('state_dict', state)
        model = _slim_weights(architecture, preprocessor, structure, weights, args.checkpoint, tried)
    os.makedirs(args.out, exist_ok=True)
    if state is not None:
        torch.save(model.state_dict(), osp.join(args.out, 'slim.pth'))
    structure.save(osp.join(args.out, 'structure.json'))
    _write_config(cfg, architecture, preprocessor, args.out, state is not None)
    print(f'slim model: {", ".join(f"{k} {v:,}" for k, v in structure.resources.items())}; written to {args.out}')
    if args.hf:
        _write_hf(model, cfg, args.hf)
    if args.onnx:
        example = example_of(model, shape)
        if example.is_floating_point():
            example = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
        worst = export_onnx(TensorForward(model), example, osp.join(args.out, 'model.onnx'))
        print(f'model.onnx agrees with the slim model to {worst:.1e} of the largest output in ONNX Runtime')


def _write_hf(model: Any, cfg: Config, folder: str) -> None:
    """Files of transformers, with the tokenizer of the config's texts or of the folder that the model came from."""
    if not hasattr(model, 'language_model'):
        raise ValueError(f'--hf is for language models (dms_mm.CausalLM), and this is a {type(model).__name__}')
    from ..hf import save_slim

    loader = cfg.get('train_dataloader') or cfg.get('test_dataloader') or {}
    place = loader.get('dataset', {}).get('tokenizer') or cfg.model['architecture'].get('path')
    tokenizer = None
    if place:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
    written = save_slim(model.language_model, folder, tokenizer)
    print(f'{type(written).__name__} written to {folder}{"" if tokenizer else ", without a tokenizer"}')


def _write_config(cfg: Config, architecture: Any, preprocessor: Any, out: str, weights: bool) -> None:
    """The retrain config on the slim model that was written to ``out``."""
    config = Config(cfg.to_dict())
    config.model = dict(
        type='dms_mm.SlimModel',
        architecture=architecture,
        structure=osp.abspath(osp.join(out, 'structure.json')),
        checkpoint=osp.abspath(osp.join(out, 'slim.pth')) if weights else None,
        data_preprocessor=preprocessor,
    )
    config.custom_hooks = [h for h in config.get('custom_hooks') or [] if 'DMSHook' not in str(h.get('type'))]
    config.dump(osp.join(out, 'config.py'))


def _slim_weights(
    architecture: Any, preprocessor: Any, structure: Structure, state: dict, path: str, tried: Any
) -> nn.Module:
    prefix = 'architecture.'
    model = build_architecture(architecture, preprocessor)
    options = trial(model, tried)
    if any(k.startswith(prefix) for k in state):
        state = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        problem = model.load_state_dict(state, strict=False)
        model = build_slim(model, structure, **options)  # type: ignore[assignment]
    else:
        model = build_slim(model, structure, **options)  # type: ignore[assignment]
        try:
            problem = model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise ValueError(f'checkpoint {path} does not fit the structure: {error}') from error
    if problem.missing_keys or problem.unexpected_keys:
        key = (problem.missing_keys + problem.unexpected_keys)[0]
        raise ValueError(f'checkpoint {path} does not fit the architecture: key {key!r}')
    return model


main = tool(slim)
