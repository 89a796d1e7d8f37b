"""Mixtures of experts: the ways in which public code routes, as small as they can be."""

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional


class Router(nn.Module):
    """Scores as shares; of them the best, shared anew."""

    def __init__(self, width: int, experts: int, count: int) -> None:
        super().__init__()
        self.num_experts, self.count = experts, count
        self.weight = nn.Parameter(torch.randn(experts, width) / width**0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, index = functional.softmax(functional.linear(x, self.weight), -1).topk(self.count, -1)
        return value / value.sum(-1, keepdim=True), index


class Stacked(nn.Module):
    """Weights of all experts in one parameter each, picked for every token."""

    def __init__(self, width: int = 12, experts: int = 5, hidden: int = 8, count: int = 2) -> None:
        super().__init__()
        self.router = Router(width, experts, count)
        self.up = nn.Parameter(torch.randn(experts, hidden, width) / width**0.5)
        self.down = nn.Parameter(torch.randn(experts, width, hidden) / hidden**0.5)

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.router(x)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, index = self.route(flat)
        each = flat.repeat_interleave(index.shape[1], 0)[..., None]
        picked = index.reshape(-1)
        y = torch.bmm(self.down[picked], torch.bmm(self.up[picked], each).relu())[..., 0]
        return (y.view(*index.shape, -1) * weight[..., None]).sum(1).view_as(x)


class ByScores(Stacked):
    """The best scores, of which shares are made then."""

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, index = functional.linear(x, self.router.weight).topk(2, -1)
        return value.softmax(-1), index


class BySigmoids(Stacked):
    """Scores by themselves; a bias that is no share of them balances the choice."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.register_buffer('balance', torch.linspace(0, 2, len(self.router.weight)))

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = functional.linear(x, self.router.weight).sigmoid()
        index = (scores + self.balance).topk(2, -1, sorted=False)[1]
        value = scores.gather(1, index)
        return value / value.sum(-1, keepdim=True), index


class OneOnly(Stacked):
    """A switch: each token goes to one expert."""

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, index = functional.linear(x, self.router.weight).softmax(-1).max(-1)
        return value[:, None], index[:, None]


class ByBest(Stacked):
    """A switch that looks its share up."""

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shares = functional.linear(x, self.router.weight).softmax(-1)
        index = shares.argmax(-1, keepdim=True)
        return shares.gather(-1, index), index


class AllRun(Stacked):
    """All experts see every token; the chosen ones' results are picked."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, index = self.route(flat)
        y = torch.einsum('neh,ewh->new', torch.einsum('nw,ehw->neh', flat, self.up).relu(), self.down)
        y = y.gather(1, index[..., None].expand(-1, -1, y.shape[-1]))
        return (y * weight[..., None]).sum(1).view_as(x)


class LooksUp(Stacked):
    """Shares are made of the scores of the chosen, which are looked up."""

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = functional.linear(x, self.router.weight)
        index = scores.softmax(-1).topk(2, -1)[1]
        return scores.gather(-1, index).softmax(-1), index


class Listed(nn.Module):
    """Experts in a list, of which each sees the tokens that are sent to it; those without any are left out."""

    def __init__(self, width: int = 12, experts: int = 5, hidden: int = 8, count: int = 2) -> None:
        super().__init__()
        self.router = Router(width, experts, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, index = self.router(flat)
        mask = functional.one_hot(index, self.router.num_experts).permute(2, 1, 0)
        out = torch.zeros_like(flat)
        for expert in torch.greater(mask.sum((-1, -2)), 0).nonzero():
            slot, token = torch.where(mask[expert].squeeze(0))
            y = self.experts[expert](flat[token]) * weight[token, slot, None]
            out.index_add_(0, token, y)
        return out.view_as(x)


SIZES = dict(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=50,
    intermediate_size=24, num_experts_per_tok=2, use_cache=False, attn_implementation='eager',
)  # fmt: skip


def language_model(name: str, **options) -> nn.Module:
    """A language model of one block with five experts."""
    if name == 'Mixtral':
        model = transformers.MixtralForCausalLM(transformers.MixtralConfig(num_local_experts=5, **SIZES, **options))
    else:
        sizes = dict(SIZES, num_experts=5, moe_intermediate_size=24, head_dim=8)
        model = transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**sizes, **options))
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.eval()
