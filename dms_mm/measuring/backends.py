"""What runs models, and how programs and whole models become something that it runs."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..resources.latency import Program
from .onnx_runtime import OnnxProgram, empty_session, exported, session_of
from .running import Runner, in_turn
from .timing import CLOCKS, seconds_of

Call = Callable[[], Any]


class Eager:
    """torch as it is called, function by function.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    most = 32  # copies of a program, that take turns

    def __init__(self, device: str, batch: int, threads: int, clock: str = 'wall') -> None:
        self.device, self.batch, self.threads, self.clock = device, batch, threads, clock

    def seconds(self, call: Call, patience: float) -> list[float]:
        """Times of a call."""
        return seconds_of(call, self.threads, patience, self.clock)

    def program(self, program: Program, copies: int = 1) -> Callable[[Sequence[int]], Call]:
        """From sizes of the variables to a call.

        Args:
            copies: how many such weights the model would have if all of it were such.
        """

        def call(sizes: Sequence[int]) -> Call:
            return in_turn([r.bound() for r in self.runners(program, sizes, copies)])

        return call

    def runners(self, program: Program, sizes: Sequence[int], copies: int) -> list[Runner]:
        return Runner.several(program, sizes, self.batch, self.device, min(copies, self.most))

    def model(self, model: nn.Module, x: Any) -> Call:
        """A whole model, which is called with ``x``."""
        return lambda: model(x)

    def nothing(self) -> Call:
        """What a call takes that does nothing."""
        return lambda: None

    def versions(self) -> dict[str, str]:
        return {'torch': torch.__version__}


class Compiled(Eager):
    """torch.compile. Programs are compiled once for any sizes, models for their own."""

    def program(self, program: Program, copies: int = 1) -> Callable[[Sequence[int]], Call]:
        torch._dynamo.reset()
        whole = Runner(program, program.sizes, self.batch, self.device)
        compiled = torch.compile(whole, dynamic=True)
        told = any('shape' in argument for action in program.actions for argument in map(_keys, action.args))

        def call(sizes: Sequence[int]) -> Call:
            runners = self.runners(program, sizes, copies)
            function = torch.compile(runners[0], dynamic=True) if told else compiled
            return in_turn([functools.partial(function, *runner.tensors) for runner in runners])

        return call

    def model(self, model: nn.Module, x: Any) -> Call:
        torch._dynamo.reset()
        compiled = torch.compile(model)
        return lambda: compiled(x)

    def nothing(self) -> Call:
        function = torch.compile(lambda x: x + 1)
        x = torch.zeros(1, device=self.device)
        return lambda: function(x)


class OnnxRuntime(Eager):
    """ONNX Runtime, at its default level of optimization."""

    most = 8  # each of them is a session

    def __init__(self, device: str, batch: int, threads: int, clock: str = 'wall') -> None:
        super().__init__(device, batch, threads, clock)
        try:
            import onnx  # noqa: F401
            import onnxruntime
        except ImportError as error:
            raise ImportError(f'{error.name} is not installed: pip install onnx onnxscript onnxruntime') from None
        provider = 'CUDAExecutionProvider' if device == 'cuda' else 'CPUExecutionProvider'
        if provider not in onnxruntime.get_available_providers():
            raise ValueError(f'the installed onnxruntime has no {provider}: pip install onnxruntime-gpu')

    def program(self, program: Program, copies: int = 1) -> Callable[[Sequence[int]], Call]:
        make = OnnxProgram(self.device, self.threads)
        return lambda sizes: in_turn([make(runner) for runner in self.runners(program, sizes, copies)])

    def runners(self, program: Program, sizes: Sequence[int], copies: int) -> list[Runner]:
        return Runner.several(program, sizes, self.batch, 'cpu', min(copies, self.most))

    def model(self, model: nn.Module, x: Any) -> Call:
        return session_of(exported(model, (x,)), [x], self.device, self.threads)

    def nothing(self) -> Call:
        return empty_session(self.device, self.threads)

    def versions(self) -> dict[str, str]:
        return {**super().versions(), 'onnxruntime': importlib.metadata.version('onnxruntime')}


def _keys(argument: Any) -> set[str]:
    return set(argument) if isinstance(argument, dict) else set()


def make_backend(name: str, device: str, batch: int, threads: int, clock: str = 'wall') -> Eager:
    """
    Raises:
        ValueError: no such backend or device here.
    """
    kinds: dict[str, type[Eager]] = {'eager': Eager, 'compile': Compiled, 'onnxruntime': OnnxRuntime}
    if name not in kinds:
        raise ValueError(f'backend {name!r}: it is one of {", ".join(kinds)}')
    if device not in ('cpu', 'cuda'):
        raise ValueError(f'device {device!r}: it is cpu or cuda')
    if device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device cuda: torch sees no GPU here')
    if clock not in CLOCKS or (clock == 'cpu' and (device != 'cpu' or threads != 1)):
        raise ValueError(f'clock {clock!r}: it is wall, or cpu for one thread on the cpu')
    return kinds[name](device, batch, threads, clock)


def device_name(device: str) -> str:
    """What the machine says that it is."""
    if device == 'cuda':
        return torch.cuda.get_device_name()
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return next(iter(names), platform.processor() or platform.machine())
