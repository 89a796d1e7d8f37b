"""Heads, head dims, masked norms and depth of transformers: the promises over small models of the real classes."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import dms_mm
from builders.exact import check_exact
from builders.structures import harden_randomly
from dms_mm.mutators.fold import MaskedNorm
from dms_mm.slimming.slim import Skip
from dms_mm.slimming.verify import outputs_of, relative_difference, verify_equivalence
from dms_mm.tracing.wholes.norms import weighted_norm

IDS = torch.arange(32).reshape(2, 16) % 90
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


def timm_model(name, **options):
    import timm

    return timm.create_model(name, num_classes=10, **options)


def hugging_face(cls, config, **settings):
    import transformers

    model = getattr(transformers, cls)(getattr(transformers, config)(**settings))
    # What a decoder caches would be an output of the model; T5's stacks have configs of their own.
    for module in model.modules():
        if hasattr(module, 'config'):
            module.config.use_cache = False
    return model


def torchvision_vit():
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(32, 8, 2, 4, 24, 40, num_classes=10)


def torchvision_swin(block):
    from torchvision.models import swin_transformer as swin

    options = dict(embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=10)
    merging = swin.PatchMergingV2 if block == 'SwinTransformerBlockV2' else swin.PatchMerging
    return swin.SwinTransformer([2, 2], block=getattr(swin, block), downsample_layer=merging, **options)


VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=4)
MODELS = {
    'timm ViT': (lambda: timm_model('vit_tiny_patch16_224', **VIT), IMAGES),
    'timm DeiT distilled': (lambda: timm_model('deit_tiny_distilled_patch16_224', **VIT), IMAGES),
    'timm ViT, q and k norms, layer scale': (
        lambda: timm_model('vit_tiny_patch16_224', qk_norm=True, init_values=0.1, **VIT), IMAGES),
    'timm BEiT (bias of several parts)': (
        lambda: timm_model('beit_base_patch16_224', **{**VIT, 'num_heads': 3}), IMAGES),
    'timm SAM (queries also make the position bias)': (
        lambda: timm_model('samvit_base_patch16_224', neck_chans=16, global_attn_indexes=(1,), window_size=2, **VIT),
        IMAGES),
    'timm Swin': (lambda: timm_model('swin_tiny_patch4_window7_224', img_size=32, patch_size=2, window_size=4,
                                     embed_dim=12, depths=(2, 2), num_heads=(2, 4)), IMAGES),
    'timm ConvNeXt': (lambda: timm_model('convnext_atto', depths=(2, 2, 2, 2), dims=(8, 12, 16, 20)), IMAGES),
    'torchvision ViT (nn.MultiheadAttention)': (torchvision_vit, IMAGES),
    'torchvision Swin': (lambda: torchvision_swin('SwinTransformerBlock'), IMAGES),
    'torchvision Swin v2': (lambda: torchvision_swin('SwinTransformerBlockV2'), IMAGES),
    'ViT': (lambda: hugging_face('ViTForImageClassification', 'ViTConfig', image_size=32, patch_size=8, **SMALL),
            {'pixel_values': IMAGES}),
    'Swin': (lambda: hugging_face('SwinForImageClassification', 'SwinConfig', image_size=32, patch_size=2,
                                  embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=4),
             {'pixel_values': IMAGES}),
    'BERT': (lambda: hugging_face('BertForSequenceClassification', 'BertConfig', vocab_size=100, **SMALL),
             {'input_ids': IDS}),
    'GPT-2': (lambda: hugging_face('GPT2LMHeadModel', 'GPT2Config', vocab_size=100, n_embd=32, n_layer=2, n_head=4,
                                   n_positions=32), {'input_ids': IDS}),
    'Llama': (lambda: hugging_face('LlamaForCausalLM', 'LlamaConfig', vocab_size=100, num_key_value_heads=2, **SMALL),
              {'input_ids': IDS}),
    'Qwen2': (lambda: hugging_face('Qwen2ForCausalLM', 'Qwen2Config', vocab_size=100, num_key_value_heads=2,
                                   tie_word_embeddings=True, **SMALL), {'input_ids': IDS}),
    'T5': (lambda: hugging_face('T5ForConditionalGeneration', 'T5Config', vocab_size=100, d_model=32, d_kv=8, d_ff=48,
                                num_layers=2, num_heads=4), {'input_ids': IDS, 'decoder_input_ids': IDS}),
}  # fmt: skip
SINGLE = ('Llama', 'Qwen2', 'T5')  # their norms compute in float32 whatever the model is cast to


def build(name):
    torch.manual_seed(0)
    model = MODELS[name][0]()
    for p in model.parameters():
        if p.ndim == 1 or not p.any():
            nn.init.uniform_(p, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope='module', params=list(MODELS))
def searchable(request):
    model = build(request.param)
    plain = copy.deepcopy(model)
    return request.param, plain, dms_mm.make_searchable(model, MODELS[request.param][1])


def kinds(space):
    return {u.kind for u in space.units.values()}


def count(model, inputs):
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not know fused kernels
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs) if isinstance(inputs, dict) else model(inputs)
    torch.backends.mha.set_fastpath_enabled(True)
    batch = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    return {
        'macs': round(counter.get_total_flops() / 2 / batch.shape[0]),
        'params': sum(p.numel() for p in model.parameters()),
    }


def test_supernet_is_unchanged_until_a_mask_is(searchable):
    name, plain, space = searchable
    inputs = MODELS[name][1]
    assert relative_difference(outputs_of(plain, inputs), outputs_of(space.model, inputs)) == 0
    assert list(space.model.state_dict()) == list(plain.state_dict())


def test_what_is_searched(searchable):
    name, _, space = searchable
    if name != 'timm ConvNeXt':
        assert {'head', 'head_dim', 'channel'} <= kinds(space)
    # The encoder's stream is an output of T5.
    assert space.searchable_share() > (0.85 if name == 'T5' else 0.97)
    assert 'depth' in kinds(space) or name == 'BERT', 'blocks with a norm behind the sum cannot go'


def test_equivalence_and_counting_of_random_structures(searchable):
    name, plain, space = searchable
    inputs = MODELS[name][1]
    for seed in range(3):
        verify_equivalence(space, inputs, seed=seed)
        hard = copy.deepcopy(space)
        harden_randomly(hard, seed)
        slim = hard.slim().eval()
        assert hard.resources() == count(slim, inputs)
        assert type(slim) is type(plain)


def test_slim_model_loads_into_a_fresh_architecture_and_trains(searchable, tmp_path):
    name, _, space = searchable
    inputs = MODELS[name][1]
    hard = copy.deepcopy(space)
    harden_randomly(hard, 5)
    slim = hard.slim().eval()
    hard.structure().save(tmp_path / 'structure.json')
    fresh = dms_mm.build_slim(build(name), tmp_path / 'structure.json').eval()
    fresh.load_state_dict(slim.state_dict(), strict=True)
    assert relative_difference(outputs_of(slim, inputs), outputs_of(fresh, inputs)) == 0
    fresh.train()
    out = fresh(**inputs) if isinstance(inputs, dict) else fresh(inputs)
    out = out if isinstance(out, torch.Tensor) else out['logits'] if isinstance(out, dict) else out[0]
    out.float().square().mean().backward()
    assert sum(p.grad is not None for p in fresh.parameters()) > 0.9 * len(list(fresh.parameters()))


def test_masks_see_the_loss(searchable):
    name, _, space = searchable
    inputs = MODELS[name][1]
    space = copy.deepcopy(space)
    bank = space.bank
    bank.importance.copy_(torch.rand(len(bank.importance), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        bank.ratio.fill_(0.3)
    bank.refresh()
    out = space.model(**inputs) if isinstance(inputs, dict) else space.model(inputs)
    out = out if isinstance(out, torch.Tensor) else out['logits']
    out.square().mean().backward()
    grad = bank.take_grad()
    for unit in space.units.values():
        assert grad[unit.start : unit.start + unit.size].any(), unit.name


class OneAttention(nn.Module):
    """Norm, attention, norm, linear: small enough for a reference by hand."""

    def __init__(self):
        super().__init__()
        from timm.layers import Attention

        self.stem = nn.Linear(5, 12)
        self.norm = nn.LayerNorm(12)
        self.attn = Attention(12, num_heads=3, qkv_bias=True)
        self.last = nn.RMSNorm(12, eps=1e-6)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.attn(self.norm(x))
        return self.head(self.last(x).mean(1))


def reference(model, x, stream, head, dim):
    """Masks multiplied into activations: inputs of layers, statistics of norms, Q' = Q m_dim m_head and so on."""

    def norm(y, layer, rms):
        weight = stream / stream.sum()
        centred = y if rms else y - (y * weight).sum(-1, keepdim=True)
        y = centred * torch.rsqrt((centred.square() * weight).sum(-1, keepdim=True) + layer.eps)
        return y * layer.weight + (0 if rms else layer.bias)

    y = model.stem(x)
    b, n, _ = y.shape
    inner = norm(y, model.norm, False) * stream
    q, k, v = model.attn.qkv(inner).reshape(b, n, 3, 3, 4).permute(2, 0, 3, 1, 4) * dim * head[:, None, None]
    out = ((q @ k.transpose(-2, -1)) * 4**-0.5).softmax(-1) @ v
    y = y + model.attn.proj(out.transpose(1, 2).reshape(b, n, 12))
    return model.head((norm(y, model.last, True) * stream).mean(1))


def test_gradients_of_attention_and_norm_masks_equal_masked_activations():
    torch.manual_seed(0)
    model = OneAttention().double().eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    plain = copy.deepcopy(model)
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    space = dms_mm.make_searchable(model, x, depth=False)
    space.bank.double()
    assert sorted((u.kind, u.size) for u in space.units.values()) == [('channel', 12), ('head', 3), ('head_dim', 4)]
    generator = torch.Generator().manual_seed(3)
    space.bank.mask.copy_(0.2 + 0.8 * torch.rand(19, generator=generator, dtype=torch.float64))
    space.bank.cut = [True] * 3
    leaves = {u.kind: space.mask(n).requires_grad_() for n, u in space.units.items()}
    expected = reference(plain, x, leaves['channel'], leaves['head'], leaves['head_dim'])
    expected.square().sum().backward()
    out = model(x)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    out.square().sum().backward()
    grad = space.bank.take_grad()
    for unit in space.units.values():
        want = leaves[unit.kind].grad
        assert (grad[unit.start : unit.start + unit.size] - want).abs().max() <= 1e-8 * want.abs().max()


class TwoWidths(nn.Module):
    """Queries and keys of one width, values of another, each with a number of its own."""

    def __init__(self, of_values):
        super().__init__()
        self.heads, self.width, self.of_values = 3, 4, of_values
        self.q, self.k, self.v = nn.Linear(5, 12), nn.Linear(5, 12), nn.Linear(5, 3 * of_values)
        self.proj = nn.Linear(3 * of_values, 2)

    def forward(self, x):
        b, n, _ = x.shape
        q, k = (layer(x).view(b, n, self.heads, self.width).transpose(1, 2) for layer in (self.q, self.k))
        v = self.v(x).view(b, n, self.heads, self.of_values).transpose(1, 2)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize('of_values', [4, 6])
def test_values_have_a_head_dim_of_their_own_where_the_forward_has(of_values):
    model = TwoWidths(of_values)
    space = dms_mm.make_searchable(model, torch.randn(2, 7, 5), verify=True)
    assert {n: u.size for n, u in space.units.items()} == {'q/head': 3, 'q/head_dim': 4, 'v/head_dim': of_values}
    space.set_keep({'q/head': 2, 'q/head_dim': 3, 'v/head_dim': 1})
    slim = space.slim()
    assert (slim.heads, slim.width, slim.of_values) == (2, 3, 1) and slim.proj.weight.shape == (2, 2)


def test_scale_of_the_supernet_survives_smaller_heads():
    """The fused kernel divides by the root of the slim head dim: queries and keys take it back."""
    model = build('timm ViT')
    space = dms_mm.make_searchable(model, IMAGES)
    name = next(n for n, u in space.units.items() if u.kind == 'head_dim')
    space.set_keep({name: 2})
    structure = space.structure()
    factors = [f for entries in structure.scales.values() for _, _, f in entries]
    assert factors and all(abs(f - (2 / 6) ** 0.25) < 1e-12 for f in factors)
    assert all('-' in text for entries in structure.scales.values() for _, text, _ in entries)


def test_grouped_queries_stay_rectangular():
    space = dms_mm.make_searchable(build('Llama'), MODELS['Llama'][1])
    heads = [u for u in space.units.values() if u.kind == 'head']
    # Per layer two key/value heads, and two queries to each of them.
    assert [u.size for u in heads] == [2, 2, 2, 2]
    space.set_keep({heads[0].name: 1, heads[1].name: 1})
    attention = space.slim().model.layers[0].self_attn
    kept = {attention.q_proj.weight.shape[0], attention.k_proj.weight.shape[0]}
    counts = {attention.q_proj.weight.shape[0] // attention.head_dim, attention.k_proj.weight.shape[0] // 8}
    assert kept == {8} or kept == {16, 8}, (kept, counts)


def test_norms_are_recognised_by_what_they_compute():
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    for norm, dim, shape in (
        (nn.LayerNorm(6), -1, (2, 3, 6)),
        (nn.RMSNorm(6, eps=1e-5), -1, (2, 3, 6)),
        (LlamaRMSNorm(6), -1, (2, 3, 6)),
    ):
        net = nn.Sequential(nn.Linear(4, 6), norm, nn.Linear(6, 2))
        space = dms_mm.make_searchable(net, torch.randn(2, 3, 4))
        spec = space.plan.trace.norms['1'][0]
        assert spec.kind == ('layer' if isinstance(norm, nn.LayerNorm) else 'rms') and spec.dim % 3 == dim % 3
        assert isinstance(net[1].forward, MaskedNorm)
        keep = torch.tensor([True, False, True, True, False, True])
        space.set_keep({'0': keep})
        x = torch.randn(shape)
        alive = torch.nonzero(keep).ravel()
        slim = space.slim()[1]
        torch.testing.assert_close(net[1](x)[..., alive], slim(x[..., alive]), rtol=1e-5, atol=1e-6)
        full = weighted_norm(x, spec, torch.ones(6), norm._parameters['weight'], norm._parameters.get('bias'))
        torch.testing.assert_close(full, type(norm).forward(norm, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_group_norm_keeps_groups_even(groups):
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(groups, 8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    space = dms_mm.make_searchable(net, torch.randn(2, 3, 5, 5), verify=True)
    (unit,) = space.units.values()
    assert unit.size == {1: 8, 2: 4, 4: 4}[groups]
    space.set_keep({unit.name: 2})
    slim = space.slim()
    assert slim[1].num_channels == slim[0].out_channels
    assert slim[1].num_channels % slim[1].num_groups == 0


def test_transformer_blocks_are_found_and_leave_names_alone():
    model = build('GPT-2')
    space = dms_mm.make_searchable(model, MODELS['GPT-2'][1])
    (depth,) = (u for u in space.units.values() if u.kind == 'depth')
    assert depth.blocks == ['transformer.h.0', 'transformer.h.1'] and [len(b) for b in depth.carriers] == [2, 2]
    space.set_keep({depth.name: torch.tensor([False, True])})
    slim = space.slim()
    assert isinstance(slim.transformer.h[0], Skip)
    assert {k.split('.')[2] for k in slim.state_dict() if '.h.' in k} == {'1'}


def test_what_asks_its_first_block_asks_what_stands_for_it():
    """``nn.TransformerEncoder`` looks at ``self.layers[0].self_attn.batch_first``."""
    layer = nn.TransformerEncoderLayer(12, 2, 16, 0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    space = check_exact(nn.Sequential(nn.Linear(5, 12), encoder, nn.Linear(12, 3)).eval(), torch.randn(2, 4, 5))
    (depth,) = (u for u in space.units.values() if u.kind == 'depth')
    assert depth.size == 2 and not space.frozen
    space.set_keep({depth.name: 0})
    slim = space.slim()
    assert slim[1].layers[0].self_attn.batch_first is True and not [*slim[1].layers.parameters()]
    assert not isinstance(slim[1].layers[0].self_attn, nn.Module)


class Rectified(torch.nn.Module):
    """A block that rectifies its sum, found by what it computes."""

    def __init__(self, inplace):
        super().__init__()
        self.conv, self.act = torch.nn.Conv2d(6, 6, 1), torch.nn.ReLU(inplace=inplace)

    def forward(self, x):
        return self.act(x + self.conv(x))


@pytest.mark.parametrize('inplace', [False, True])
@pytest.mark.parametrize('before', [torch.nn.ReLU, torch.nn.LeakyReLU])
def test_a_rectified_sum_may_go_only_behind_a_rectifier(before, inplace):
    torch.manual_seed(0)
    blocks = torch.nn.Sequential(*(Rectified(inplace) for _ in range(3)))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), before(), blocks, torch.nn.Flatten(), torch.nn.LazyLinear(4))
    x = torch.randn(2, 3, 6, 6)
    model(x)
    space = dms_mm.make_searchable(model, x, verify=True)
    depth = [b for u in space.units.values() if u.kind == 'depth' for b in u.blocks]
    # What a leaky rectifier lets through, the first block would cut off.
    assert depth == (['2.0', '2.1', '2.2'] if before is torch.nn.ReLU else ['2.1', '2.2'])


def test_attention_can_be_left_out():
    space = dms_mm.make_searchable(build('timm ViT'), IMAGES, attention=False)
    assert kinds(space) == {'channel', 'depth'}


@pytest.mark.parametrize('rule', ['balanced', 'paper'])
def test_search_of_a_vision_transformer_meets_its_budget(rule):
    torch.manual_seed(0)
    model = build('timm ViT').train()
    space = dms_mm.make_searchable(model, IMAGES)
    search = dms_mm.Search(space, {'macs': 0.5}, total_steps=30, rule=rule)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        x, y = torch.randn(8, 3, 32, 32, generator=generator), torch.randint(0, 10, (8,), generator=generator)
        loss = nn.functional.cross_entropy(model(x), y) + search.resource_loss()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        search.step()
    structure = search.finalize()
    assert 0.99 * search.targets['macs'] <= structure.resources['macs'] <= search.targets['macs']
    verify_equivalence(space, IMAGES)
    slim = space.slim().eval()
    assert structure.resources['macs'] == count(slim, IMAGES)['macs']
    assert np.isfinite(outputs_of(slim, IMAGES)[0].numpy()).all()
