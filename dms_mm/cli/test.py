"""Evaluate a checkpoint by a config."""

from __future__ import annotations

from mmengine.model import is_model_wrapper

from .common import add_common, build_runner, load_config, parser_of, prepare_launch, tool, training

HELP = """Evaluate a checkpoint: of a search (with its present masks), of a slim model, or of any host config.

  python tools/test.py configs/demo/retrain.py work_dirs/retrain/epoch_4.pth \\
      --cfg-options model.structure=work_dirs/search/structure.json
"""


def test(argv: list[str] | None = None) -> dict:
    parser = parser_of('test', HELP)
    add_common(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    args = parser.parse_args(argv)
    cfg = load_config(args)
    from ..models.checkpoint import read_checkpoint

    state = read_checkpoint(args.checkpoint)
    prepare_launch(cfg)
    cfg.load_from = None
    runner = build_runner(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    missing, unexpected = model.load_state_dict(state.get('state_dict', state), strict=False)
    if missing or unexpected:
        key = (list(missing) + list(unexpected))[0]
        raise ValueError(f'checkpoint {args.checkpoint} does not fit the model: key {key!r}')
    metrics = training(runner.test)
    if args.out:
        from mmengine.fileio import dump

        dump(metrics, args.out)
    return metrics


main = tool(test)
