"""Does it work on my model? Every model of a zoo, traced, made slim at random, reloaded and exported.

    python benchmarks/zoo.py run [--group timm] [--shard 0/2] [NAME ...]   # appends to results/zoo.jsonl
    python benchmarks/zoo.py table [--write]                              # docs/zoo.md

Each model runs in a forked process of its own: trace and check (seconds), units, searchable share of the MACs, the
largest difference of three random hard structures between the masked supernet and the slim model in float64, a strict
reload of the slim weights by the structure file in a fresh process, ONNX Runtime against the slim model; and, in
the same run, Torch-Pruning: trace, random pruning to half width, one forward.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / 'results' / 'zoo.jsonl'

# One model of every timm family (module), the smallest that a quick look finds, and its input size.
TIMM = """
    beit_base_patch16_224:224 halonet_h1:256 test_byobnet:160 cait_xxs24_224:224 coat_tiny:224 convit_tiny:224
    convmixer_768_32:224 convnext_zepto_rms:224 cpubone_nano:224 crossvit_tiny_240:240 csatv2:512
    cs3darknet_focus_s:256 cspnext_tiny:224 davit_tiny:224 deepseek_vit_412m:546 deit_tiny_patch16_224:224
    densenet121:224 dla46x_c:224 dpn48b:224 edgenext_xx_small:256 efficientformer_l1:224 efficientformerv2_s0:224
    mnasnet_small:224 efficientvim_m1:224 efficientvit_b0:224 efficientvit_m0:224 eva02_tiny_patch14_224:224
    fasternet_s:224 fastvit_s12:256 focalnet_tiny_srf:224 gcvit_xxtiny:224 gemma4_vit_167m:768 ghostnet_050:224
    hardcorenas_b:224 hgnetv2_b0:224 hiera_tiny_224:224 sam2_hiera_tiny:896 hrnet_w18_small:224 iformer_s:224
    inception_next_atto:224 inception_resnet_v2:299 inception_v3:299 inception_v4:299 lcnetv2_small:224
    levit_384_s8:224 lowformer_b0:224 test_mambaout:160 maxvit_pico_rw_256:256 poolformerv2_s12:224
    mixer_s16_224:224 mobilenetv3_small_050:224 mobilenetv5_base:256 mobilevit_xxs:256 mvitv2_tiny:224
    naflexvit_base_patch16_siglip:384 nasnetalarge:331 nest_tiny:224 nextvit_small:224 test_nfnet:160 pit_xs_224:224
    pnasnet5large:331 pvt_v2_b0:224 qwen3_vit_88m:768 rdnet_tiny:224 regnety_040_sgn:224 repghostnet_050:224
    repvit_m1:224 res2next50:224 resnest14d:224 test_resnet:160 resnetv2_18:224 rexnet_100:224 selecsls42:224
    legacy_seresnet18:224 sequencer2d_s:224 shvit_s1:224 skresnet18:224 starnet_s050:224 swiftformer_xs:224
    swin_tiny_patch4_window7_224:224 swinv2_tiny_window8_256:256 swinv2_cr_tiny_224:224 tiny_vit_5m_224:224
    tnt_s_legacy_patch16_224:224 tresnet_m:224 twins_svt_small:224 vgg11:224 visformer_tiny:224 test_vit:160
    vit_tiny_r_s16_p8_224:224 test_vit_relpos:160 samvit_base_patch16_224:224 vitamin_small_224:224 volo_d1_224:224
    ese_vovnet19b_slim_dw:224 legacy_xception:299 xception41p:299 xcit_nano_12_p8_224:224
""".split()
SEGMENTATION = [
    'deeplabv3_mobilenet_v3_large', 'deeplabv3_resnet50', 'deeplabv3_resnet101', 'fcn_resnet50', 'fcn_resnet101',
    'lraspp_mobilenet_v3_large',
]  # fmt: skip
# Small configs of the library's own classes, without weights: class, config and what differs from its defaults.
VISION = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
TEXT = dict(vocab_size=100, **VISION)
GROUPED = dict(TEXT, num_key_value_heads=2)
HUGGING_FACE = {
    'ViT': ('ViTForImageClassification', 'ViTConfig', dict(VISION, image_size=32, patch_size=8)),
    'DeiT': ('DeiTForImageClassification', 'DeiTConfig', dict(VISION, image_size=32, patch_size=8)),
    'Swin': ('SwinForImageClassification', 'SwinConfig',
             dict(image_size=32, patch_size=2, embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=4)),
    'BERT': ('BertForSequenceClassification', 'BertConfig', TEXT),
    'GPT-2': ('GPT2LMHeadModel', 'GPT2Config', dict(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=32)),
    'Llama': ('LlamaForCausalLM', 'LlamaConfig', GROUPED),
    'Qwen2': ('Qwen2ForCausalLM', 'Qwen2Config', dict(GROUPED, tie_word_embeddings=True)),
    'T5': ('T5ForConditionalGeneration', 'T5Config',
           dict(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)),
}  # fmt: skip
MMPRETRAIN = [
    'resnet50_8xb32_in1k', 'mobilenet-v2_8xb32_in1k', 'efficientnet-b0_3rdparty_8xb32_in1k', 'deit-tiny_4xb256_in1k',
    'swin-tiny_16xb64_in1k', 'convnext-tiny_32xb128_in1k', 'vit-base-p32_in21k-pre_3rdparty_in1k-384px',
    'shufflenet-v2-1x_16xb64_in1k', 'regnetx-400mf_8xb128_in1k', 'res2net50-w14-s8_3rdparty_8xb32_in1k',
    'densenet121_3rdparty_in1k', 'repvgg-A0_8xb32_in1k', 'mobilenet-v3-small-050_3rdparty_in1k',
    'hrnet-w18_3rdparty_8xb32_in1k', 'poolformer-s12_3rdparty_32xb128_in1k', 'edgenext-xxsmall_3rdparty_in1k',
]  # fmt: skip
MMDET = {
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'rtmdet-tiny': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'faster-rcnn': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}


def names(group: str) -> list[str]:
    if group == 'torchvision':
        import torchvision

        found = torchvision.models.list_models(torchvision.models)
        return [f'torchvision/{n}' for n in found] + [f'segmentation/{n}' for n in SEGMENTATION]
    listed = {'timm': TIMM, 'transformers': HUGGING_FACE, 'mmpretrain': MMPRETRAIN, 'mmdet': MMDET}[group]
    return [f'{group}/{n}' for n in listed]


GROUPS = ('transformers', 'mmdet', 'mmpretrain', 'timm', 'torchvision')


def build(name: str, **options):
    """(model in eval mode, example inputs, forward function or None); options are those of timm's model."""
    import torch

    group, _, short = name.partition('/')
    torch.manual_seed(0)
    forward = None
    if group in ('torchvision', 'segmentation'):
        import torchvision

        given = {'init_weights': False} if short in ('googlenet', 'inception_v3') else {}
        if group == 'segmentation':
            given = {'weights_backbone': None}
        model = torchvision.models.get_model(short, **given)
        size = 299 if 'inception' in short else 224
        inputs = torch.randn(2, 3, size, size)
    elif group == 'timm':
        import timm

        short, _, size = short.partition(':')
        model = timm.create_model(short, **options)
        inputs = torch.randn(2, 3, int(size), int(size))
    elif group == 'transformers':
        import transformers

        cls, config, settings = HUGGING_FACE[short]
        model = getattr(transformers, cls)(getattr(transformers, config)(**settings))
        # What a decoder caches would be an output of the model; T5's stacks have configs of their own.
        for module in model.modules():
            if hasattr(module, 'config'):
                module.config.use_cache = False
        if 'Image' in cls:
            inputs = {'pixel_values': torch.randn(2, 3, 32, 32)}
        else:
            inputs = {'input_ids': torch.randint(0, 100, (2, 16))}
            if short == 'T5':
                inputs['decoder_input_ids'] = inputs['input_ids']
    elif group == 'mmpretrain':
        from dms_mm.models.hosts import import_scope

        import_scope('mmpretrain')
        from mmpretrain import get_model

        model = get_model(short)
        size = 384 if '384' in short else 224
        inputs, forward = torch.randn(2, 3, size, size), tensor_mode
    else:
        from dms_mm.models.hosts import import_scope

        import_scope('mmdet')
        import mmdet
        from mmengine.config import Config
        from mmengine.registry import init_default_scope

        init_default_scope('mmdet')
        from mmdet.registry import MODELS

        config = Config.fromfile(Path(mmdet.__file__).parent / '.mim' / 'configs' / MMDET[short]).model
        config.backbone.pop('init_cfg', None)
        model = MODELS.build(config)
        inputs, forward = torch.randn(1, 3, 256, 256), backbone_and_heads
    for p in model.parameters():
        # Zero biases, unit gains and zeroed heads would hide mistakes.
        if p.ndim == 1 or not p.any():
            torch.nn.init.uniform_(p, 0.5, 1.5)
    return model.eval(), inputs, forward


def tensor_mode(model, x):
    return model(x, mode='tensor')


def backbone_and_heads(model, x):
    """MMDetection's tensor mode needs data samples in two-stage detectors; what it computes before them needs none."""
    features = model.extract_feat(x)
    head = model.bbox_head if hasattr(model, 'bbox_head') else model.rpn_head
    return head(features)


def run_one(name: str) -> dict:
    import torch

    import dms_mm
    from dms_mm.slimming.verify import outputs_of, verify_equivalence

    warnings.filterwarnings('ignore')
    record: dict = {'name': name}
    model, inputs, forward = build(name)
    start = time.process_time()
    space = dms_mm.make_searchable(model, inputs, forward_fn=forward)
    record['seconds'] = round(time.process_time() - start, 1)
    record['units'] = dict(collections.Counter(u.kind for u in space.units.values()))
    record['share'] = round(space.searchable_share(), 3)
    record['reasons'] = space.blockers(3)
    worst = 0.0
    for seed in range(3):
        worst = max(worst, verify_equivalence(space, inputs, forward, seed=seed))
    record['equivalence'] = worst
    print(json.dumps(record), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        slim = random_slim(space)
        space.structure().save(f'{folder}/structure.json')
        torch.save(slim.state_dict(), f'{folder}/slim.pth')
        torch.save([x.float() for x in outputs_of(slim, inputs, forward)], f'{folder}/outputs.pth')
        torch.save(inputs, f'{folder}/inputs.pth')
        again = subprocess.run(
            [sys.executable, __file__, 'reload', name, '--folder', folder], capture_output=True, text=True, timeout=300
        )
        record['reload'] = 'ok' if again.returncode == 0 else again.stderr.strip().splitlines()[-1][:200]
    return record


def random_slim(space):
    """The slim model of a random hard structure, which the space then shows."""
    import torch

    from dms_mm.slimming.trials import random_keep

    keep = torch.from_numpy(random_keep(list(space.units.values()), 7))
    space.set_keep({u.name: keep[u.start : u.start + u.size] for u in space.units.values()})
    return space.slim().eval()


def export_one(name: str) -> dict:
    """ONNX Runtime against a random slim model."""
    import dms_mm

    model, inputs, forward = build(name)
    space = dms_mm.make_searchable(model, inputs, forward_fn=forward)
    with tempfile.TemporaryDirectory() as folder:
        return {'onnx': check_onnx(random_slim(space), inputs, forward, f'{folder}/model.onnx')}


def check_onnx(slim, inputs, forward, path: str) -> str:
    """Export by tracing, run in ONNX Runtime, compare."""
    import onnxruntime
    import torch

    from dms_mm.slimming.verify import outputs_of

    class Flat(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, *tensors):
            data = dict(zip(inputs, tensors)) if isinstance(inputs, dict) else tensors[0]
            return tuple(tensor_outputs(self.model, data, forward))

    tensors = tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)
    expected = outputs_of(slim, inputs, forward)
    if hasattr(slim, 'set_attn_implementation'):
        # torch 2.14 cannot export the fused kernel of Hugging Face's Swin and T5, whole or slim.
        slim.set_attn_implementation('eager')
    try:
        torch.onnx.export(Flat(slim).eval(), tensors, path, dynamo=True, external_data=False, verbose=False)
    except Exception as error:
        return f'export: {type(error).__name__}: {" ".join(str(error).split())[:120]}'
    try:
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        feed = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors)}
        outputs = session.run(None, feed)
    except Exception as error:
        return f'runtime: {type(error).__name__}: {" ".join(str(error).split())[:120]}'
    worst = max(
        float((torch.from_numpy(b).double() - a).abs().max() / a.abs().max().clamp_min(1e-12))
        for a, b in zip(expected, outputs)
    )
    return 'ok' if worst < 1e-3 else f'differs by {worst:.1e}'


def tensor_outputs(model, data, forward):
    import torch
    from torch.utils._pytree import tree_flatten

    from dms_mm.tracing import call_forward, plain_outputs

    leaves = tree_flatten(plain_outputs(call_forward(model, data, forward)))[0]
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]


def reload(name: str, folder: str) -> None:
    """In a fresh process: the architecture, the structure file, the slim weights, the same outputs."""
    import torch

    import dms_mm
    from dms_mm.slimming.verify import outputs_of, relative_difference

    model, _, forward = build(name)
    slim = dms_mm.build_slim(model, f'{folder}/structure.json')
    slim.load_state_dict(torch.load(f'{folder}/slim.pth', weights_only=True), strict=True)
    inputs = torch.load(f'{folder}/inputs.pth', weights_only=True)
    expected = [x.double() for x in torch.load(f'{folder}/outputs.pth', weights_only=True)]
    difference = relative_difference(expected, outputs_of(slim.eval(), inputs, forward))
    if difference > 1e-5:
        raise SystemExit(f'outputs differ by {difference:.1e}')


def peer(name: str) -> dict:
    """Torch-Pruning on the same model: trace, prune at random to half width, one forward."""
    import torch
    import torch_pruning as tp

    warnings.filterwarnings('ignore')
    model, inputs, forward = build(name)
    outputs = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m.out_features in (1000, 100)]
    start = time.perf_counter()
    options = {'forward_fn': forward} if forward else {}
    pruner = tp.pruner.BasePruner(
        model, inputs, importance=tp.importance.RandomImportance(), pruning_ratio=0.5, ignored_layers=outputs, **options
    )
    before = sum(p.numel() for p in model.parameters())
    pruner.step()
    with torch.no_grad():
        tensor_outputs(model, inputs, forward)
    share = sum(p.numel() for p in model.parameters()) / before
    return {'peer': 'ok', 'peer_params': round(share, 3), 'peer_seconds': round(time.perf_counter() - start, 1)}


def child(function, name: str, timeout: int) -> tuple[dict, str]:
    """Run ``function(name)`` in a forked process: a crash, a lack of memory or a hang costs one model only."""
    context = multiprocessing.get_context('fork')
    with tempfile.NamedTemporaryFile('r+') as log:

        def work() -> None:
            with open(log.name, 'a') as sys.stdout:
                try:
                    print(json.dumps(function(name)), flush=True)
                except BaseException as error:
                    text = ' '.join(str(error).split())[:250]
                    print('problem:', f'{type(error).__name__}: {text}', flush=True)

        process = context.Process(target=work)
        process.start()
        process.join(timeout)
        problem = ''
        if process.is_alive():
            process.kill()
            process.join()
            problem = f'over {timeout} s'
        lines = Path(log.name).read_text().splitlines()
        record = next((json.loads(line) for line in reversed(lines) if line.startswith('{')), {})
        raised = next((line[9:] for line in lines if line.startswith('problem: ')), '')
        if not problem and not raised and process.exitcode:
            problem = f'killed by signal {-process.exitcode}'
        return record, problem or raised


def run(args) -> None:
    chosen = args.names or [n for g in args.group or GROUPS for n in names(g)]
    index, count = map(int, args.shard.split('/'))
    known = {r['name']: r for r in load()} if args.resume else {}

    def left(name: str) -> list[str]:
        marks = {'check': {'units', 'problem'}, 'peer': {'peer'}, 'onnx': {'onnx'}}
        return [stage for stage in args.stages if not marks[stage] & set(known.get(name, {}))]

    RESULTS.parent.mkdir(exist_ok=True)
    # Imported once; every model then starts from here.
    import timm  # noqa: F401
    import torch
    import torch_pruning  # noqa: F401
    import torchvision  # noqa: F401
    import transformers  # noqa: F401

    import dms_mm  # noqa: F401

    torch.set_num_threads(1)
    for name in [n for n in chosen if left(n)][index::count]:
        record: dict = {'name': name}
        for stage in left(name):
            function, limit = STAGES[stage]
            found, problem = child(function, name, min(limit, args.timeout))
            record.update(found)
            if problem:
                record[{'check': 'problem'}.get(stage, stage)] = problem
            with RESULTS.open('a') as file:
                file.write(json.dumps(record) + '\n')
        print(
            name,
            {k: v for k, v in record.items() if k in ('share', 'equivalence', 'problem', 'onnx', 'peer')},
            flush=True,
        )


STAGES = {'check': (run_one, 300), 'peer': (peer, 30), 'onnx': (export_one, 120)}


def load() -> list[dict]:
    """What is known of each model, the newest last."""
    records: dict[str, dict] = {}
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            record = json.loads(line)
            old = records.setdefault(record['name'], {})
            if 'units' in record:
                old.pop('problem', None)
            old.update(record)
    return list(records.values())


def cell(text: str, width: int = 70) -> str:
    text = ' '.join(str(text).split()).replace('|', '/')
    return text if len(text) <= width else text[: width - 1] + '…'


def table(write: bool) -> None:
    from _docs import write_block

    records = sorted(
        load(), key=lambda r: (GROUPS.index(r['name'].split('/')[0].replace('segmentation', 'torchvision')), r['name'])
    )
    lines = [
        '| model | s | units | share of MACs | equivalence | reload | ONNX | Torch-Pruning | note |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    count = collections.Counter()
    for r in records:
        good = r.get('equivalence', 1) < 1e-5
        count['all'] += 1
        count['equal'] += good
        count['wide'] += r.get('share', 0) >= 0.8
        count['reload'] += r.get('reload') == 'ok'
        count['onnx'] += r.get('onnx') == 'ok'
        count['exported'] += 'onnx' in r
        count['peer'] += r.get('peer') == 'ok'
        units = ' '.join(f'{v} {k}' for k, v in r.get('units', {}).items())
        note = r.get('problem', '')
        if not note and r.get('share', 1) < 0.8:
            note = '; '.join(r.get('reasons', []))
        equal = f'{r["equivalence"]:.0e}' if 'equivalence' in r else ''
        cells = [r['name'], r.get('seconds', ''), units, r.get('share', ''), equal]
        cells += [cell(r.get(key, ''), 40) for key in ('reload', 'onnx', 'peer')]
        lines.append('| ' + ' | '.join(map(str, [*cells, cell(note)])) + ' |')
    summary = (
        f'{count["all"]} models: {count["equal"]} equivalent, {count["wide"]} with at least 80% of the MACs '
        f'searchable, {count["reload"]} reloaded, {count["onnx"]} of {count["exported"]} equal in ONNX Runtime; '
        f'Torch-Pruning prunes and runs {count["peer"]}.'
    )
    print(summary)
    if write:
        write_block('docs/zoo.md', 'zoo', summary + '\n\n' + '\n'.join(lines))
    else:
        print('\n'.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table', 'reload'])
    parser.add_argument('names', nargs='*')
    parser.add_argument('--group', action='append', choices=GROUPS)
    parser.add_argument('--shard', default='0/1')
    parser.add_argument('--timeout', type=int, default=300, help='seconds for one model')
    parser.add_argument('--resume', action='store_true', help='leave out models and stages that have a record')
    parser.add_argument('--stages', nargs='+', choices=list(STAGES), default=list(STAGES))
    parser.add_argument('--write', action='store_true')
    parser.add_argument('--folder')
    args = parser.parse_args()
    if args.command == 'run':
        run(args)
    elif args.command == 'table':
        table(args.write)
    else:
        reload(args.names[0], args.folder)


if __name__ == '__main__':
    main()
