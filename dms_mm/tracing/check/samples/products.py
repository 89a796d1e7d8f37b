"""Products of matrices, and what einsum makes of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .making import own, single

own('mm', torch.mm, (3, 4), (4, 5))
own('mm', lambda x, w: F.linear(x, w), (3, 4), (5, 4))
own('mm', lambda x, w, v: F.linear(F.linear(x, w), v), (3, 4), (5, 4), (2, 5))
own('mm', lambda x: x @ x.T, (3, 4))
own('addmm', lambda x, w, b: F.linear(x, w, b), (3, 4), (5, 4), (5,))
own('addmm', lambda b, x, w: torch.addmm(b, x, w), (3, 5), (3, 4), (4, 5))
own('addmm', lambda b, x, w: torch.addmm(b, x, w), (3, 1), (3, 4), (4, 5))
own('addmm', lambda x, w, b: F.linear(x, w, b), (2, 3, 4), (5, 4), (5,))
own('bmm', lambda x, w: torch.bmm(x, w), (2, 3, 4), (2, 4, 5))
own('bmm', lambda x, w: torch.bmm(x, w), (2, 3, 4), (2, 4, 5))
own('bmm', lambda x, w: torch.bmm(x, w), (2, 3, 4), (2, 4, 5))
own('bmm', lambda x: torch.bmm(x, x.transpose(1, 2)), (2, 3, 4))
own('baddbmm', lambda b, x, w: torch.baddbmm(b, x, w), (2, 3, 5), (2, 3, 4), (2, 4, 5))
own('baddbmm', lambda b, x, w: torch.baddbmm(b, x, w, beta=0.5, alpha=2), (1, 5), (2, 3, 4), (2, 4, 5))
own('addbmm', lambda b, x, w: torch.addbmm(b, x, w), (3, 5), (2, 3, 4), (2, 4, 5))
own('mv', lambda x, w: torch.mv(x, w), (3, 4), (4,))
own('addmv', lambda b, x, w: torch.addmv(b, x, w), (3,), (3, 4), (4,))
own('addr', lambda b, x, w: torch.addr(b, x, w), (3, 4), (3,), (4,))
own('dot', lambda x, w: torch.dot(x, w), (4,), (4,))
own('_cdist_forward', lambda x, y: torch.cdist(x, y), (2, 3, 4), (2, 5, 4))
own('_cdist_forward', lambda x, y: torch.cdist(x, y, 1.0), (3, 4), (5, 4))
own('_trilinear', F.bilinear, (3, 4), (3, 2), (5, 4, 2), (5,))
own('_trilinear', F.bilinear, (2, 3, 4), (2, 3, 2), (5, 4, 2))
own('_trilinear', F.bilinear, (3, 2), (3, 2), (2, 2, 2))
_grouped_mm = torch.ops.aten._grouped_mm
for _ends in ([2, 5], [0, 5], [5, 5]):
    _rows = torch.tensor(_ends, dtype=torch.int32)
    own('_grouped_mm', lambda x, w, e=_rows: _grouped_mm(x, w, e), single(5, 12), single(2, 12, 8))
    own('_grouped_mm', lambda x, w, e=_rows: _grouped_mm(x, w.mT, e), single(5, 12), single(2, 8, 12))
_weight_norm = torch.ops.aten._weight_norm_interface
own('_weight_norm_interface', lambda v, g: _weight_norm(v, g, 0), (4, 3, 2), (4, 1, 1))
own('_weight_norm_interface', lambda v, g: _weight_norm(v, g, 0), (4, 3), (4, 1))
own('_weight_norm_interface', lambda v, g: _weight_norm(v, g, 2), (4, 3, 5), (1, 1, 5))
own('_weight_norm_interface', lambda x, v, g: F.linear(x, _weight_norm(v, g, 0)[0]), (2, 3), (4, 3), (4, 1))
own('_weight_norm_interface', lambda x, v, g: F.linear(x, _weight_norm(v, g, 1)[0]), (2, 3), (4, 3), (1, 3))
for _equation, *_shapes in (
    ('ij,jk->ik', (3, 4), (4, 5)),
    ('bij,bjk->bik', (2, 3, 4), (2, 4, 5)),
    ('bhid,bhjd->bhij', (2, 3, 4, 5), (2, 3, 6, 5)),
    ('bihd,bjhd->bhij', (2, 4, 3, 5), (2, 6, 3, 5)),
    ('bchw,oc->bohw', (2, 3, 4, 2), (5, 3)),
    ('bchw,ochw->bo', (2, 3, 2, 2), (4, 3, 2, 2)),
    ('bnc,bmc->bnm', (2, 3, 4), (2, 5, 4)),
    ('i,j->ij', (3,), (4,)),
    ('bi,bi->b', (3, 4), (3, 4)),
    ('ij,ij->', (3, 4), (3, 4)),
    ('bij->bji', (2, 3, 4)),
    ('bij->bi', (2, 3, 4)),
    ('bii->bi', (2, 3, 3)),
    ('bi,ij,bj->b', (3, 4), (4, 5), (3, 5)),
    ('nkctv,kvw->nctw', (2, 3, 4, 2, 5), (3, 5, 5)),
    ('bhqk,bkhd->bqhd', (2, 3, 4, 5), (2, 5, 3, 2)),
):
    own('einsum', lambda *x, e=_equation: torch.einsum(e, *x), *_shapes)
own('tensordot', lambda x, y: torch.tensordot(x, y, 2), (3, 4, 2), (4, 2, 5))
own('tensordot', lambda x, y: torch.tensordot(x, y, 1), (3, 4), (4, 2, 5))
own('tensordot', lambda x, y: torch.tensordot(x, y, ([0, 2], [1, 0])), (3, 4, 2), (2, 3, 5))
own('kron', torch.kron, (2, 3), (3, 2))
own('outer', torch.outer, (3,), (4,))
own('outer', torch.outer, (2,), (5,))
own('outer', lambda x, y: torch.outer(x, y), single(4), single(3))
own('linalg_cross', lambda x, y: torch.linalg.cross(x, y, dim=1), (4, 3, 2), (4, 3, 2))
own('cosine_similarity', lambda x, y: F.cosine_similarity(x, y, 1), (3, 4, 2), (3, 4, 2))
own('normalize', lambda x: F.normalize(x, dim=1), (3, 4, 2))
own('normalize', lambda x: F.normalize(x, dim=-1), (3, 4))
own('normalize', lambda x: F.normalize(x, p=1, dim=0), (4, 3))
