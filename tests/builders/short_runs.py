"""Three steps by a config on tiny data, at its own size or smaller through the same files."""

import json
import math

import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

import builders.one_epoch  # noqa: F401
from dms_mm.cli.train import train as train_tool
from dms_mm.models.build import build_architecture
from dms_mm.registry import plain

COUNTED = {}


def counted_macs(architecture, shape):
    """By PyTorch's own counter, on a model without data."""
    key = repr(architecture), tuple(shape)
    if key not in COUNTED:
        model = build_architecture(architecture).to('meta').eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *shape, device='meta'), mode='tensor')
        COUNTED[key] = counter.get_total_flops() // 2
    return COUNTED[key]


# -- smaller runs through the same files
SIZE = 64


def smaller(architecture):
    """An architecture's own classes at 64 px, with fewer blocks and channels."""
    small = plain(architecture)
    if small['type'] == 'dms_mm.Scaled':
        small = small['architecture']
    if 'efficientnet' in str(small).lower():
        small['backbone'].update(
            {'model_name': 'efficientnet_b0'} if 'model_name' in small['backbone'] else {'arch': 'b0'}
        )
    if 'VisionTransformer' in str(small) or 'deit' in str(small):
        small.get('backbone', small)['img_size'] = SIZE
    factors = dict(width=0.5, depth=0.34, input_shape=(3, SIZE, SIZE))
    return dict(_delete_=True, type='dms_mm.Scaled', architecture=small, **factors)


def smaller_images(pipeline):
    sizes = ('scale', 'crop_size')
    return [{k: SIZE if k in sizes else v for k, v in transform.items()} for transform in plain(pipeline)]


def shrink(child, cfg):
    child['train_dataloader']['dataset']['pipeline'] = smaller_images(cfg.train_dataloader.dataset.pipeline)
    if cfg.model.type not in ('dms_mm.DMS', 'dms_mm.SlimModel'):
        child['model'] = smaller(cfg.model)
        return
    child['model'] = dict(architecture=smaller(cfg.model.architecture))
    if 'target' in cfg.model:
        share = cfg.model.target.macs / counted_macs(cfg.model.architecture, cfg.model.input_shape)
        child['model'].update(target=dict(macs=share), input_shape=(3, SIZE, SIZE))


def shortened(path, root, folder, with_teacher, full):
    """A child of the config with tiny data: 6 images by 2. In a full run everything else stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(path)
    hooks = [*cfg.get('custom_hooks', []), dict(type='mmengine.OneEpoch', steps=3)]
    child = dict(
        train_dataloader=dict(batch_size=2, num_workers=0, dataset=dict(data_root=str(root))),
        custom_hooks=plain(hooks),
        default_hooks=dict(logger=dict(interval=1)),
        val_dataloader=dict(batch_size=2, num_workers=0, dataset=dict(data_root=str(root))),
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
    )
    child['visualizer'] = dict(type='mmpretrain.UniversalVisualizer', vis_backends=child['vis_backends'])
    if 'max_iters' in cfg.train_cfg:
        child['train_cfg'] = dict(max_iters=3)
    if not full:
        shrink(child, cfg)
    if with_teacher:
        # An entry of the same kind that needs no download, its weights from a file.
        entry = dict(type='mmpretrain.TimmClassifier', model_name='mobilenetv3_small_050')
        torch.save(build_architecture(dict(entry)).state_dict(), folder / 'teacher')
        teacher = dict(_delete_=True, **entry)
        child.setdefault('model', {})['distillation'] = dict(
            teacher=teacher, teacher_checkpoint=str(folder / 'teacher')
        )
    # Two runs of one name in one second would write to one log.
    child['experiment_name'] = '-'.join(folder.parts[-2:])
    text = '\n'.join(f'{k} = {v!r}' for k, v in child.items())
    (folder / 'config.py').write_text(f'_base_ = {str(path)!r}\n{text}\n')
    return folder / 'config.py'


def train(path, root, folder, with_teacher=False, full=True, **more):
    """Three steps by a config, evaluated where that is cheap; returns the config that ran."""
    # MMPretrain's own metrics, once: evaluation takes its time on a CPU.
    validate = 'mbv2' in path.stem
    path = shortened(path, root, folder, with_teacher, full)
    options = ['--cfg-options', *(f'{k}={v}' for k, v in more.items())] if more else []
    train_tool([str(path), '--work-dir', str(folder), *([] if validate else ['--no-validate']), *options])
    lines = [json.loads(x) for f in folder.glob('*/vis_data/scalars.json') for x in f.read_text().splitlines()]
    logs = [x for x in lines if 'loss' in x]
    assert len(logs) == 3 and all(math.isfinite(x['loss']) for x in logs)
    assert not validate or {'accuracy/top1', 'accuracy/top5'} <= set(lines[-1])
    assert list(folder.glob('*/vis_data/events.out.tfevents.*'))
    assert [p for p in folder.glob('*.pth') if p.stem in ('epoch_1', 'iter_3')]
    config = Config.fromfile(path)
    if with_teacher:
        names = ['loss_' + loss['type'].removeprefix('dms_mm.') for loss in config.model.distillation.losses]
        assert names and all(name in x for name in names for x in logs)
    return config
