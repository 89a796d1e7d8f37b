"""Do narrow layers train right on this CPU? Gradients of random narrow layers and nets, with the heap checked.

    python benchmarks/narrow.py [--minutes 5] [--isa AVX2 AVX512_CORE] [--seed 0] [--write]
    python benchmarks/narrow.py --case AVX2 17 [--seed 0]       one case again, by its number, with what it prints

Slim models have widths that hand-made ones never have, and some kernels of the library below torch are wrong there.
Every case is a layer (or a small net) of random widths up to 20, on a random map and batch, contiguous or
channels_last, in a process of its own: three steps of forward and backward in float32. It fails if the process dies (a
signal, or glibc's heap check), hangs, or gives an output or a gradient that is off by more than 1e-3 of the largest
from the same in float64 without oneDNN. Case N of a seed is the same case at any time; how its fault
shows may differ.

ONEDNN_MAX_CPU_ISA makes a process take the kernels of a lesser CPU; a greater one than the CPU's changes nothing.
``--write`` puts the table into docs/faq.md. Linux on x86-64 with glibc's libc_malloc_debug.so.0; without it (said in
the table's head) only faults that show themselves are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import write_block

FORMATS = ('contiguous', 'channels_last')
TOLERANCE = 1e-3
SECONDS = 30  # of a case, before it counts as hung


def convolution(rng: random.Random, dims: int) -> dict:
    cin, cout, groups = rng.randint(1, 20), rng.randint(1, 20), 1
    kind = rng.choice(['dense', 'dense', 'dense', 'grouped', 'depthwise', 'transposed'])
    if kind == 'grouped':
        groups = rng.randint(2, 4)
        cin, cout = groups * rng.randint(1, 6), groups * rng.randint(1, 6)
    elif kind == 'depthwise':
        groups, cout = cin, cin
    kernel = rng.choice([1, 1, 2, 3, 5] if dims < 3 else [1, 1, 3])
    return dict(
        kind=f'{kind} {dims}d', cin=cin, cout=cout, groups=groups, kernel=kernel, stride=rng.choice([1, 2, 2, 3]),
        padding=rng.choice([0, kernel // 2]), bias=rng.random() < 0.5,
    )  # fmt: skip


def draw(seed: int, number: int) -> dict:
    """Case ``number`` of a seed: what :func:`layer` builds, and the shape that goes in."""
    rng = random.Random(f'{seed}/{number}')
    dims = rng.choice([1, 2, 2, 2, 2, 3])
    case = convolution(rng, dims)
    if number % 3 == 1:
        name = rng.choice(['linear', 'batch norm', 'group norm', 'layer norm', 'max pooling', 'average pooling'])
        case = dict(kind=name, cin=rng.randint(1, 20), cout=rng.randint(1, 20), kernel=rng.choice([2, 3]))
    elif number % 3 == 2 and dims == 2:
        case = dict(kind='net', widths=[rng.randint(1, 20) for _ in range(7)], stride=2)
        case['cin'] = rng.choice([1, 3])
    side = rng.choice([rng.randint(6, 20), 16, 32, 64, 65] if dims < 3 else [rng.randint(6, 12), 8, 16])
    shape = [rng.randint(1, 8), case['cin'], *[side] * dims]
    return dict(number=number, format=rng.choice(FORMATS), shape=shape, dims=dims, seed=rng.randrange(1 << 30), **case)


def layer(case: dict):
    from torch import nn

    dims, kind = case['dims'], case['kind']
    if kind == 'net':
        return net(case)
    if kind == 'linear':
        return nn.Linear(case['shape'][-1], case['cout'])
    if kind.endswith('norm'):
        norms = {
            'batch norm': lambda c: [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][dims - 1](c),
            'group norm': lambda c: nn.GroupNorm(2 if c % 2 == 0 else 1, c),
            'layer norm': lambda c: nn.LayerNorm(case['shape'][-1]),
        }
        return norms[kind](case['cin'])
    if kind.endswith('pooling'):
        pools = dict(max=(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), average=(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
        return pools[kind.split()[0]][dims - 1](case['kernel'], 2)
    plain, turned = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    classes = turned if kind.startswith('transposed') else plain
    options = {k: case[k] for k in ('stride', 'padding', 'groups', 'bias')}
    return classes[dims - 1](case['cin'], case['cout'], case['kernel'], **options)


def net(case: dict):
    """A stem, a residual block with a shortcut by stride, an inverted residual with a gate, and a classifier."""
    from torch import nn

    class Gate(nn.Module):
        def __init__(self, c: int, h: int) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, h, 1), nn.SiLU(), nn.Conv2d(h, c, 1))

        def forward(self, x):
            return x * self.f(x).sigmoid()

    class Net(nn.Module):
        def __init__(self, a: int, b: int, c: int, d: int, e: int, f: int, g: int) -> None:
            super().__init__()

            def conv(i, o, k, s=1, groups=1):
                return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o))

            self.stem = nn.Sequential(conv(case['cin'], a, 3), nn.SiLU())
            self.left = nn.Sequential(conv(a, b, 1), nn.SiLU(), conv(b, c, 3, 2))
            self.short = conv(a, c, 1, 2)
            self.inverted = nn.Sequential(
                conv(c, d, 1), nn.SiLU(), conv(d, d, 3, 2, d), nn.SiLU(), Gate(d, e), conv(d, f, 1)
            )
            self.down = conv(c, f, 1, 2)
            self.end = nn.Linear(f, g)

        def forward(self, x):
            x = self.stem(x)
            x = nn.functional.silu(self.left(x) + self.short(x))
            x = self.inverted(x) + self.down(x)
            return self.end(x.mean((2, 3)))

    return Net(*case['widths'])


def worst_difference(case: dict) -> float:
    """Largest difference of outputs and gradients, of each one's largest element, over three steps."""
    import copy

    import torch

    torch.manual_seed(case['seed'])
    plain = layer(case).double()
    x = torch.randn(case['shape']).double()  # the same numbers in float32, so that maxima are at the same places
    with torch.no_grad():
        upstream = torch.randn_like(copy.deepcopy(plain)(x))
    last = {4: torch.channels_last, 5: torch.channels_last_3d}

    def step(model, x, upstream, channels_last: bool) -> list:
        def arrange(t):
            return t.contiguous(memory_format=last[t.ndim]) if channels_last and t.ndim in last else t

        if channels_last and x.ndim in last:
            model.to(memory_format=last[x.ndim])
        model.zero_grad()
        x = arrange(x.clone()).requires_grad_()
        y = model(x)
        y.backward(arrange(upstream))
        return [y.detach().double(), x.grad.double(), *(p.grad.double() for p in model.parameters())]

    torch._C._set_mkldnn_enabled(False)  # what torch.backends.mkldnn.flags does, without its warnings
    expected = step(plain, x, upstream, False)
    torch._C._set_mkldnn_enabled(True)
    model = copy.deepcopy(plain).float()
    worst = 0.0
    for _ in range(3):
        found = step(model, x.float(), upstream.float(), case['format'] == 'channels_last')
        # What is zero but for rounding (a weight before a norm of one sample) is compared with all others.
        least = 1e-2 * max(float(b.abs().max()) for b in expected)
        for a, b in zip(found, expected):
            worst = max(worst, float((a - b).abs().nan_to_num(1e9).max()) / max(float(b.abs().max()), least, 1e-9))
    return worst


def isolated(work: Callable[[], float]) -> str | float:
    """What ``work`` gives in a fork of this process, or how that ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        signal.alarm(SECONDS)
        try:
            os.write(writer, repr(work()).encode())
            os._exit(0)
        except Exception as error:  # a fork that goes on would run what its parent does
            os.write(2, f'{error!r}\n'.encode())
            os._exit(1)
    os.close(writer)
    with open(reader) as pipe:
        told = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 'hang' if number == signal.SIGALRM else f'died ({signal.Signals(number).name})'
    return float(told) if os.WEXITSTATUS(status) == 0 else 'error'


def serve(seed: int, seconds: float, number: int | None) -> None:
    """Cases one after another, each in a fork; a line of JSON each."""
    import torch
    import torch.fx.experimental.symbolic_shapes  # which a first backward would import in every fork

    torch.set_num_threads(1)
    if number is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what glibc says of each
    end, first = time.time() + seconds, number or 0
    while time.time() < end:
        case = draw(seed, first)
        print(json.dumps([case, isolated(lambda case=case: worst_difference(case))]), flush=True)
        first += 1
        if number is not None:
            return


def start(isa: str, *arguments: str) -> subprocess.Popen:
    """A process of :func:`serve` that takes the kernels of ``isa``, its heap checked."""
    checks = {'LD_PRELOAD': 'libc_malloc_debug.so.0', 'GLIBC_TUNABLES': 'glibc.malloc.check=3'}
    environment = {**os.environ, **checks, 'ONEDNN_MAX_CPU_ISA': isa, 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen([sys.executable, __file__, 'serve', *arguments], env=environment, stdout=subprocess.PIPE)


def bad(result: str | float) -> bool:
    return isinstance(result, str) or result > TOLERANCE


def tabulate(isa: str, outcomes: list) -> list[str]:
    """Rows of the table: where something failed by itself, all else of an instruction set together."""
    groups = defaultdict(list)
    for case, result in outcomes:
        what = case['kind']
        if 'kernel' in case and 'stride' in case:
            stride = 'stride 1' if case['stride'] == 1 else 'a stride'
            what += f', kernel {1 if case["kernel"] == 1 else "over 1"}, {stride}'
        groups[what, case['format']].append((case, result))
    lines, rest = [], []
    for (what, form), found in sorted(groups.items()):
        failed = [(case, result) for case, result in found if bad(result)]
        rest += found if not failed else []
        if failed:
            kinds = Counter('wrong' if isinstance(r, float) else r for _, r in failed)
            told = ', '.join(f'{n} {name}' for name, n in sorted(kinds.items()))
            if what == 'net':
                least = sorted({min(c['widths'][0], c['widths'][2]) for c, _ in failed})
                widths = f'1x1 convolutions with stride 2 read {", ".join(map(str, least))} channels'
            else:
                widths = f'{min(c["cin"] for c, _ in failed)} to {max(c["cin"] for c, _ in failed)} channels in'
            lines.append(f'| {isa} | {what} | {form} | {len(found)} | {len(failed)}: {told} | {widths} |')
    off = max((r for _, r in rest), default=0.0)
    return [*lines, f'| {isa} | all others | both | {len(rest)} | 0 (largest difference {off:.0e}) | |']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=5, help='for all instruction sets together')
    parser.add_argument('--isa', nargs='+', default=['AVX2', 'AVX512_CORE'])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--case', nargs=2, metavar=('ISA', 'NUMBER'))
    parser.add_argument('--write', action='store_true')
    args = parser.parse_args()
    if args.case:
        print(start(args.case[0], str(args.seed), '60', args.case[1]).communicate()[0].decode())
        return
    import torch

    probe = subprocess.run(['true'], env={**os.environ, 'LD_PRELOAD': 'libc_malloc_debug.so.0'}, capture_output=True)
    heap = "glibc's heap checks" if not probe.stderr else 'no heap checks (no libc_malloc_debug.so.0)'
    head = f'torch {torch.__version__}, CPU with {torch.backends.cpu.get_cpu_capability()}, one thread, {heap}.'
    lines = [
        '| kernels of | layer | memory format | cases | failed | the failed ones |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    for isa in args.isa:
        process = start(isa, str(args.seed), str(60 * args.minutes / len(args.isa)))
        outcomes = [json.loads(line) for line in process.stdout]
        if process.wait():
            raise SystemExit(f'the process of {isa} ended with {process.returncode}')
        for case, result in outcomes:
            if bad(result):
                print(result, case, flush=True)
        lines += tabulate(isa, outcomes)
    print(head, *lines, sep='\n')
    if args.write:
        write_block('docs/faq.md', 'narrow', '\n'.join([head, '', *lines]))


if __name__ == '__main__':
    if sys.argv[1:2] == ['serve']:
        serve(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
    else:
        main()
