"""Programs and models in ONNX Runtime."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from .running import ProgramModule, Runner

Call = Callable[[], Any]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of every model how it fares."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def exported(model: nn.Module, inputs: tuple[Tensor, ...], optimize: bool = True) -> Any:
    """The ONNX model of ``model(*inputs)``."""
    with _quiet():
        made = torch.onnx.export(model.cpu().eval(), inputs, dynamo=True, verbose=False, optimize=optimize)
    assert made is not None
    return made.model_proto


def session_of(proto: Any, inputs: Sequence[Tensor], device: str, threads: int) -> Call:
    """A call of a model with inputs and outputs in place, so that nothing is copied."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is tried at other sizes may fail
    providers = ['CUDAExecutionProvider' if device == 'cuda' else 'CPUExecutionProvider']
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)
    given = {i.name: x.detach().cpu().contiguous().numpy() for i, x in zip(session.get_inputs(), inputs)}
    binding = session.io_binding()
    for name, x in given.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(x, device, 0))
    for output, x in zip(session.get_outputs(), session.run(None, given)):
        binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(x), device, 0))

    def call() -> Any:
        session.run_with_iobinding(binding)
        return binding

    return call


def empty_session(device: str, threads: int) -> Call:
    """A model that does next to nothing: what a call takes by itself."""
    return session_of(exported(nn.Hardtanh(), (torch.zeros(1),)), [torch.zeros(1)], device, threads)


class OnnxProgram:
    """From a program at some sizes to a call. It is exported once; for other sizes the constants of the ONNX model are
    exchanged, and where it gives other shapes then than it should, it is exported anew."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads
        self.first: Any = None

    def __call__(self, runner: Runner) -> Call:
        module = ProgramModule(runner)
        if self.first is None:
            self.first = exported(module, module.inputs(), optimize=False)
        else:
            try:
                return self._checked(self._resized(runner, module), module)
            except Exception:  # whatever the runtime raises for sizes that don't fit each other
                pass
        return self._checked(exported(module, module.inputs(), optimize=False), module)

    def _checked(self, proto: Any, module: ProgramModule) -> Call:
        from onnxscript import optimizer, rewriter

        # As the exporter does with whole models: a bias that is computed keeps the runtime from its fast layouts.
        optimized = rewriter.rewrite(optimizer.optimize(proto))
        call = session_of(optimized, module.inputs(), self.device, self.threads)
        with torch.no_grad():
            wanted = [tuple(x.shape) for x in tree_flatten(module(*module.inputs()))[0]]
        got = [tuple(x.shape()) for x in call().get_outputs()]
        if got != wanted:
            raise ValueError(f'ONNX Runtime gives {got}, torch {wanted}')
        return call

    def _resized(self, runner: Runner, module: ProgramModule) -> Any:
        """The ONNX model with the sizes of ``runner``."""
        import onnx

        proto = type(self.first)()
        proto.CopyFrom(self.first)
        graph = proto.graph
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField('shape')
        for given, x in zip(graph.input, module.inputs()):
            for dim, size in zip(given.type.tensor_type.shape.dim, x.shape):
                dim.dim_value = size
        constants = {f'p{k}': x for k, x in enumerate(runner.tensors)}
        for constant in graph.initializer:
            if constant.name in constants:
                values = constants[constant.name].contiguous().numpy()
                constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
        for action in runner.program.actions[:1]:
            if action.name.startswith('conv'):
                args, kwargs = runner.arguments(0, runner.tensors, [])
                groups = args[6] if len(args) > 6 else kwargs.get('groups', 1)
                for node in graph.node:
                    for attribute in node.attribute:
                        if attribute.name == 'group':
                            attribute.i = groups
        return proto
