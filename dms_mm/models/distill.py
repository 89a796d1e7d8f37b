"""Knowledge distillation as a setting of any model: logits of a teacher beside the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..registry import MODELS
from .build import build_architecture, load_pretrained


@MODELS.register_module()
class KLDivergence(nn.Module):
    """``weight * tau^2 * KL(softmax(t / tau) || softmax(s / tau))``, the mean over the batch; logits (B, C)."""

    def __init__(self, tau: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        self.tau, self.weight = tau, weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        s, t = F.log_softmax(student / self.tau, 1), F.log_softmax(teacher / self.tau, 1)
        return self.weight * self.tau**2 * F.kl_div(s, t, reduction='batchmean', log_target=True)


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    """() mean over rows of one minus Pearson's correlation; (N, M)."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return 1 - F.cosine_similarity(a, b, 1, eps=1e-8).mean()


@MODELS.register_module()
class DIST(nn.Module):
    """Relations instead of values: what correlates in the teacher's probabilities shall correlate in the student's.

    ``weight * tau^2 * (beta * inter + gamma * intra)``: one minus Pearson's correlation over the classes of each
    sample, and over the samples of each class (Huang et al., 2022, equations 6 to 10). Logits (B, C).
    """

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, tau: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        self.beta, self.gamma, self.tau, self.weight = beta, gamma, tau, weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        s, t = (student / self.tau).softmax(1), (teacher / self.tau).softmax(1)
        loss = self.beta * _unlike(s, t) + self.gamma * _unlike(s.T, t.T)
        return self.weight * self.tau**2 * loss


class _Teacher:
    """The teacher beside the student: in no ``state_dict`` and no optimizer."""

    def __init__(self, config: Mapping[str, Any], checkpoint: str | None, size: int | Sequence[int] | None) -> None:
        self.size = size if size is None or isinstance(size, int) else tuple(size)
        self.model = build_architecture(dict(config))
        if checkpoint is not None:
            load_pretrained(self.model, checkpoint)
        elif _brings_weights(config):
            self.model.init_weights()
        else:
            raise ValueError("the teacher has no weights: give `teacher_checkpoint`, or timm's pretrained=True")
        self.model.eval()
        self.model.requires_grad_(False)

    def __call__(self, inputs: Tensor, preprocessor: Any) -> Tensor:
        self.model.to(inputs.device)
        own: Any = self.model.data_preprocessor
        if getattr(own, '_enable_normalize', False) and getattr(preprocessor, '_enable_normalize', False):
            # What the student sees is normalised by its own mean and deviation.
            raw = inputs * preprocessor.std + preprocessor.mean
            inputs = (raw - own.mean) / own.std
        if self.size is not None:
            inputs = F.interpolate(inputs, self.size, mode='bicubic', antialias=True)
        with torch.no_grad():
            return _logits(self.model(inputs, mode='tensor'))


def _brings_weights(config: Any) -> bool:
    if isinstance(config, Mapping):
        given = config.get('pretrained') or config.get('checkpoint_path')
        kind = (config.get('init_cfg') or {}) if isinstance(config.get('init_cfg'), Mapping) else {}
        return bool(given) or kind.get('type') == 'Pretrained' or any(map(_brings_weights, config.values()))
    return False


def _logits(out: Any) -> Tensor:
    if isinstance(out, (list, tuple)):
        out = out[-1]
    out = getattr(out, 'logits', out)
    if not isinstance(out, Tensor) or out.ndim != 2:
        raise ValueError(f'distillation needs logits (B, classes), got {type(out).__name__}')
    return out


class Distillation:
    """Two forward hooks on a student: one notes its logits, one adds the losses in mode ``'loss'``.

    Args:
        teacher: config of a classifier.
        losses: of logits: configs of :class:`KLDivergence`, :class:`DIST`, or one's own.
        teacher_checkpoint: the teacher's weights.
        task_weight: factor of the student's own losses; 0 learns from the teacher alone.
        teacher_size: pixels, one number or (H, W), that the teacher's images are resized to.
    """

    def __init__(
        self,
        teacher: Mapping[str, Any],
        losses: Sequence[Mapping[str, Any]],
        teacher_checkpoint: str | None = None,
        task_weight: float = 1.0,
        teacher_size: int | Sequence[int] | None = None,
    ) -> None:
        if not losses:
            raise ValueError('distillation needs at least one loss, for example dict(type="dms_mm.KLDivergence")')
        self.teacher = _Teacher(teacher, teacher_checkpoint, teacher_size)
        self.losses = [(str(c['type']).rpartition('.')[2], MODELS.build(dict(c))) for c in losses]
        self.task_weight = task_weight
        self.logits: Tensor | None = None

    def __deepcopy__(self, memo: dict) -> Distillation:
        return self  # copies of a student, of an EMA say, share the teacher

    def attach(self, student: BaseModel) -> None:
        """Hook the module whose output the logits are: ``head`` of MMPretrain's classifiers, ``model`` of wrapped ones.

        Raises:
            ValueError: the student has neither.
        """
        source = getattr(student, 'head', None) or getattr(student, 'model', None)
        if not isinstance(source, nn.Module):
            raise ValueError(f'distillation needs a classifier with a `head`; {type(student).__name__} has none')
        source.register_forward_hook(self._note)
        student.register_forward_hook(self._add, with_kwargs=True)

    def _note(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self.logits = output

    def _add(self, student: Any, args: tuple, kwargs: dict, output: Any) -> Any:
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        if mode != 'loss':
            return None
        inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]
        student_logits, self.logits = _logits(self.logits), None
        teacher_logits = self.teacher(inputs, student.data_preprocessor).to(student_logits.dtype)
        if teacher_logits.shape != student_logits.shape:
            raise ValueError(
                f'the teacher gives {tuple(teacher_logits.shape)} logits, the student {tuple(student_logits.shape)}'
            )
        out = {k: v * self.task_weight if 'loss' in k else v for k, v in output.items()}
        for name, loss in self.losses:
            out[f'loss_{name}'] = loss(student_logits, teacher_logits)
        return out
