"""The models of the zoo: names, small configs, how to build and to call each."""

from __future__ import annotations

from pathlib import Path

from zoo_backbones import BACKBONES as MMPRETRAIN_BACKBONES
from zoo_backbones import backbone_model

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
# As they are called: lists of images, pairs of frames, clips. The sizes are the smallest that they take.
VIDEO = {'r3d_18': (8, 64), 'mc3_18': (8, 64), 'r2plus1d_18': (8, 64), 's3d': (16, 224), 'mvit_v1_b': (16, 224),
         'mvit_v2_s': (16, 224), 'swin3d_t': (8, 64), 'swin3d_s': (8, 64), 'swin3d_b': (8, 64)}  # fmt: skip
# Small configs of the library's own classes, without weights: class, config and what differs from its defaults.
VISION = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
TEXT = dict(vocab_size=100, **VISION)
GROUPED = dict(TEXT, num_key_value_heads=2)
TOKENS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
DETECTOR = dict(d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48, decoder_ffn_dim=48,
                decoder_attention_heads=4, num_queries=10)  # fmt: skip
HUGGING_FACE = {
    'ViT': ('ViTForImageClassification', 'ViTConfig', dict(VISION, image_size=32, patch_size=8)),
    'DeiT': ('DeiTForImageClassification', 'DeiTConfig', dict(VISION, image_size=32, patch_size=8)),
    'Swin': ('SwinForImageClassification', 'SwinConfig',
             dict(image_size=32, patch_size=2, embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=4)),
    'BERT': ('BertForSequenceClassification', 'BertConfig', TEXT),
    'GPT-2': ('GPT2LMHeadModel', 'GPT2Config', dict(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=32)),
    'Llama': ('LlamaForCausalLM', 'LlamaConfig', GROUPED),
    'Qwen2': ('Qwen2ForCausalLM', 'Qwen2Config', dict(GROUPED, tie_word_embeddings=True)),
    'Mistral': ('MistralForCausalLM', 'MistralConfig', dict(GROUPED, sliding_window=8)),
    'Qwen3': ('Qwen3ForCausalLM', 'Qwen3Config', dict(GROUPED, head_dim=8)),
    'Phi': ('PhiForCausalLM', 'PhiConfig', dict(GROUPED, tie_word_embeddings=False)),
    'GPT-NeoX': ('GPTNeoXForCausalLM', 'GPTNeoXConfig', dict(TEXT, use_parallel_residual=True)),
    'OPT': ('OPTForCausalLM', 'OPTConfig',
            dict(vocab_size=100, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2,
                 num_attention_heads=4, max_position_embeddings=32)),
    'T5': ('T5ForConditionalGeneration', 'T5Config',
           dict(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)),
    'Gemma2': ('Gemma2ForCausalLM', 'Gemma2Config', dict(GROUPED, head_dim=8, sliding_window=8)),
    'Gemma3': ('Gemma3ForCausalLM', 'Gemma3TextConfig', dict(GROUPED, head_dim=8, sliding_window=8)),
    'Phi-3': ('Phi3ForCausalLM', 'Phi3Config', dict(GROUPED, **TOKENS)),
    'Mixtral': ('MixtralForCausalLM', 'MixtralConfig', dict(GROUPED, num_local_experts=4)),
    'Qwen3-MoE': ('Qwen3MoeForCausalLM', 'Qwen3MoeConfig',
                  dict(GROUPED, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)),
    # The default kernel takes rows of a multiple of 16 bytes; one expert after the other takes all.
    'Mixtral eager': ('MixtralForCausalLM', 'MixtralConfig',
                      dict(GROUPED, num_local_experts=4, experts_implementation='eager')),
    'Qwen3-MoE eager': ('Qwen3MoeForCausalLM', 'Qwen3MoeConfig',
                        dict(GROUPED, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
                             experts_implementation='eager')),
    'Switch Transformers': ('SwitchTransformersForConditionalGeneration', 'SwitchTransformersConfig',
                            dict(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2,
                                 num_heads=4, num_experts=4, num_sparse_encoder_layers=1,
                                 num_sparse_decoder_layers=1)),
    'Mamba': ('MambaForCausalLM', 'MambaConfig',
              dict(vocab_size=100, hidden_size=32, state_size=8, num_hidden_layers=2)),
    'DeBERTa-v2': ('DebertaV2ForSequenceClassification', 'DebertaV2Config',
                   dict(TEXT, relative_attention=True, pos_att_type=['p2c', 'c2p'], position_buckets=8)),
    'Whisper': ('WhisperForConditionalGeneration', 'WhisperConfig',
                dict(vocab_size=100, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                     decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=16,
                     max_source_positions=20, max_target_positions=16, decoder_start_token_id=1, **TOKENS)),
    'wav2vec2': ('Wav2Vec2ForCTC', 'Wav2Vec2Config',
                 dict(VISION, conv_dim=[16] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4)),
    'CLIP': ('CLIPModel', 'CLIPConfig',
             dict(projection_dim=24, text_config=dict(TEXT, max_position_embeddings=16, **TOKENS),
                  vision_config=dict(VISION, image_size=32, patch_size=8))),
    'Segformer': ('SegformerForSemanticSegmentation', 'SegformerConfig',
                  dict(hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32)),
    'DETR': ('DetrForObjectDetection', 'DetrConfig', dict(DETECTOR, encoder_attention_heads=4)),
    'Deformable DETR': ('DeformableDetrForObjectDetection', 'DeformableDetrConfig',
                        dict(DETECTOR, encoder_attention_heads=4)),
    'RT-DETR': ('RTDetrForObjectDetection', 'RTDetrConfig',
                dict(DETECTOR, encoder_hidden_dim=32, encoder_in_channels=[16, 24, 32],
                     decoder_in_channels=[32, 32, 32], anchor_image_size=None)),
}  # fmt: skip
# A small backbone of a detector: its config class, its settings, and the stages that it gives.
RESNET = dict(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[2, 2, 2, 2], layer_type='basic')
BACKBONES = {
    'DETR': ('ResNetConfig', dict(RESNET, out_features=['stage4'])),
    'Deformable DETR': ('ResNetConfig', dict(RESNET, out_features=['stage2', 'stage3', 'stage4'])),
    'RT-DETR': ('RTDetrResNetConfig', dict(RESNET, out_features=['stage2', 'stage3', 'stage4'])),
}
DIFFUSERS = {
    'UNet2DConditionModel': dict(
        sample_size=16, block_out_channels=(16, 32), down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'), cross_attention_dim=24, attention_head_dim=4,
        norm_num_groups=4,
    ),
    'AutoencoderKL': dict(
        block_out_channels=(16, 32), down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2, layers_per_block=2, norm_num_groups=4,
    ),
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
MMYOLO = {
    'yolov5-n': 'yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py',
    'yolov6-n': 'yolov6/yolov6_n_syncbn_fast_8xb32-400e_coco.py',
    'yolov7-tiny': 'yolov7/yolov7_tiny_syncbn_fast_8x16b-300e_coco.py',
    'yolov8-n': 'yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py',
}
GROUPS = ('transformers', 'diffusers', 'mmdet', 'mmyolo', 'mmpretrain', 'timm', 'torchvision')
# What torchvision lists by itself.
TORCHVISION = ('torchvision', 'segmentation', 'detection', 'video', 'optical_flow')


def names(group: str) -> list[str]:
    if group == 'torchvision':
        import torchvision

        models = torchvision.models
        listed = {
            'torchvision': models.list_models(models),
            'segmentation': SEGMENTATION,
            'detection': models.list_models(models.detection),
            'video': VIDEO,
            'optical_flow': models.list_models(models.optical_flow),
        }
        return [f'{kind}/{n}' for kind in TORCHVISION for n in listed[kind]]
    listed = {
        'timm': TIMM, 'transformers': HUGGING_FACE, 'diffusers': DIFFUSERS,
        'mmpretrain': [*MMPRETRAIN, *MMPRETRAIN_BACKBONES], 'mmdet': MMDET,
        'mmyolo': MMYOLO,
    }[group]  # fmt: skip
    return [f'{group}/{n}' for n in listed]


def build(name: str, **options):
    """(model in eval mode, example inputs, forward function or None); options are those of timm's model."""
    import torch

    group, _, short = name.partition('/')
    torch.manual_seed(0)
    makers = {
        'timm': timm_model, 'transformers': hugging_face, 'diffusers': diffusers_model, 'mmpretrain': mmpretrain_model,
        'mmdet': detector_of_config, 'mmyolo': detector_of_config,
    }  # fmt: skip
    maker = torchvision_model if group in TORCHVISION else makers[group]
    model, inputs, forward = maker(group, short, **options)
    for p in model.parameters():
        # Zero biases, unit gains and zeroed heads would hide mistakes.
        if p.ndim == 1 or not p.any():
            torch.nn.init.uniform_(p, 0.5, 1.5)
    for module in model.backbone.modules() if 'rcnn' in short else ():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 0.3)  # or what is proposed lies outside of the image
    return model.eval(), inputs, forward


def torchvision_model(group: str, short: str):
    import torch
    import torchvision

    given = {'init_weights': False} if short in ('googlenet', 'inception_v3') else {}
    if group in ('segmentation', 'detection'):
        given = {'weights_backbone': None}
    if group == 'detection' and not short.startswith('ssd'):
        given |= {'min_size': 64, 'max_size': 128}
    # Of weights that have learnt nothing, no box would be left to compare; and few boxes tell as much as many.
    if 'rcnn' in short:
        given |= {'box_score_thresh': -1.0, 'box_detections_per_img': 2, 'rpn_post_nms_top_n_test': 50}
    elif group == 'detection':
        given |= {'score_thresh': -1.0, 'detections_per_img': 20}
    if 'keypoint' in short:
        given['num_classes'] = 91
    model = torchvision.models.get_model(short, **given)
    if group == 'detection':
        inputs = ([torch.rand(3, 64, 96), torch.rand(3, 80, 64)][: 1 if short == 'ssd300_vgg16' else 2],)
    elif group == 'optical_flow':
        inputs = (torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128))
    elif group == 'video':
        frames, size = VIDEO[short]
        inputs = torch.randn(1, 3, frames, size, size)
    else:
        size = 299 if 'inception' in short else 224
        inputs = torch.randn(2, 3, size, size)
    return model, inputs, None


def timm_model(group: str, short: str, **options):
    import timm
    import torch

    short, _, size = short.partition(':')
    return timm.create_model(short, **options), torch.randn(2, 3, int(size), int(size)), None


def hugging_face(group: str, short: str):
    import torch
    import transformers

    cls, config, settings = HUGGING_FACE[short]
    if short in BACKBONES:
        kind, given = BACKBONES[short]
        settings = dict(settings, backbone_config=getattr(transformers, kind)(**given))
    model = getattr(transformers, cls)(getattr(transformers, config)(**settings))
    # What a decoder caches would be an output of the model; T5's stacks have configs of their own.
    for module in model.modules():
        if hasattr(module, 'config'):
            module.config.use_cache = False
    tokens = torch.randint(3, 100, (2, 16))
    if short == 'wav2vec2':
        inputs = {'input_values': torch.randn(2, 4000)}
    elif short == 'Whisper':
        inputs = {'input_features': torch.randn(2, 16, 40), 'decoder_input_ids': tokens}
    elif short == 'CLIP':
        inputs = {'input_ids': tokens, 'pixel_values': torch.randn(2, 3, 32, 32)}
    elif 'Image' in cls:
        inputs = {'pixel_values': torch.randn(2, 3, 32, 32)}
    elif short in BACKBONES or short == 'Segformer':
        inputs = {'pixel_values': torch.randn(2, 3, 96, 96)}
    else:
        inputs = {'input_ids': torch.randint(0, 100, (2, 16))}
        if short in ('T5', 'Switch Transformers'):
            inputs['decoder_input_ids'] = inputs['input_ids']
    return model, inputs, None


def diffusers_model(group: str, short: str):
    import diffusers
    import torch

    model = getattr(diffusers, short)(**DIFFUSERS[short])
    if short == 'AutoencoderKL':
        return model, torch.randn(2, 3, 32, 32), None
    inputs = {
        'sample': torch.randn(2, 4, 16, 16),
        'timestep': torch.tensor([3, 700]),
        'encoder_hidden_states': torch.randn(2, 6, 24),
    }
    return model, inputs, None


def mmpretrain_model(group: str, short: str):
    import torch

    from dms_mm.models.hosts import import_scope

    import_scope('mmpretrain')
    from mmpretrain import get_model

    if short in MMPRETRAIN_BACKBONES:
        return *backbone_model(short), None
    size = 384 if '384' in short else 224
    return get_model(short), torch.randn(2, 3, size, size), tensor_mode


def detector_of_config(group: str, short: str):
    import importlib

    import torch

    from dms_mm.models.hosts import import_scope

    import_scope(group)
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    init_default_scope(group)
    library = Path(importlib.import_module(group).__file__).parent
    path = {'mmdet': MMDET, 'mmyolo': MMYOLO}[group][short]
    config = Config.fromfile(library / '.mim' / 'configs' / path).model
    config.backbone.pop('init_cfg', None)
    model = revert_sync_batchnorm(importlib.import_module(f'{group}.registry').MODELS.build(config))
    forward = tensor_mode if group == 'mmyolo' else backbone_and_heads
    return model, torch.randn(1, 3, 256, 256), forward


def tensor_mode(model, x):
    return model(x, mode='tensor')


def backbone_and_heads(model, x):
    """MMDetection's tensor mode needs data samples in two-stage detectors; what it computes before them needs none."""
    features = model.extract_feat(x)
    head = model.bbox_head if hasattr(model, 'bbox_head') else model.rpn_head
    return head(features)
