"""The file of measured latencies: JSON, checked by a schema.

All times are seconds of one forward of ``batch`` samples.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .program import KINDS, Kind

FORMAT = 'dms_mm.latency'
VERSION = 1
Backend = Literal['eager', 'compile', 'onnxruntime']
BACKENDS: tuple[Backend, ...] = get_args(Backend)

Seconds = Annotated[float, Field(ge=0, lt=1e6)]
Factor = Annotated[float, Field(ge=0, lt=1e6)]
Point = Annotated[float, Field(gt=0, lt=1e15)]


class TableError(ValueError):
    """A table of latencies is unreadable, foreign, or was measured for something else."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra='forbid', allow_inf_nan=False)


class OperatorTimes(_Strict):
    """One operator over a grid of counts.

    Attributes:
        points: per axis the counts, growing.
        seconds: medians, the last axis running fastest; empty if it could not be run by itself.
        spread: interquartile ranges over the medians.
        note: why it could not be run.
    """

    name: str
    kind: Kind
    points: Annotated[list[list[Point]], Field(max_length=2)] = []
    seconds: list[Seconds] = []
    spread: list[Factor] = []
    note: str = ''

    @model_validator(mode='after')
    def _fits(self) -> OperatorTimes:
        if any(a >= b for line in self.points for a, b in itertools.pairwise(line)):
            raise ValueError('points do not grow')
        if self.seconds and math.prod(map(len, self.points)) != len(self.seconds):
            raise ValueError(f'{len(self.seconds)} seconds for {"x".join(str(len(p)) for p in self.points)} points')
        if len(self.spread) != len(self.seconds):
            raise ValueError('not a spread for every median')
        return self


class ModelTime(_Strict):
    """A whole slim model: what its operators add up to, and what it took.

    Attributes:
        parts: kind of operator -> sum of its times in the table.
        launches: functions that it calls.
    """

    parts: dict[Kind, Seconds]
    launches: Factor
    seconds: Seconds
    spread: Factor


class Correction(_Strict):
    """``offset + launch * launches + sum_kind factor * part``, what was measured of whole models by what adds up."""

    offset: Seconds = 0.0
    launch: Seconds = 0.0
    factors: dict[Kind, Factor] = dict.fromkeys(KINDS, 1.0)
    error: Factor = 0.0  # median over the models that it was fitted to, relative


class Table(_Strict):
    """
    Attributes:
        device: ``cpu`` or ``cuda``; ``device_name`` is what the machine says that it is.
        clock: ``cpu`` for the time of the process alone.
        versions: of what runs the model.
        whole: digest of which operators the model has, and how often.
    """

    format: Literal['dms_mm.latency'] = 'dms_mm.latency'
    version: Literal[1] = 1
    model: str
    backend: Backend
    device: str
    device_name: str
    batch: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
    clock: Literal['wall', 'cpu'] = 'wall'
    versions: dict[str, str]
    whole: str
    operators: dict[str, OperatorTimes] = {}
    models: list[ModelTime] = []
    correction: Correction | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Table:
        """
        Raises:
            TableError: there is no such file, or it is no table; names the field.
        """
        try:
            content = json.loads(Path(path).read_text())
        except OSError as error:
            reason = error.strerror or str(error)
            raise TableError(f'latency table {path}: {reason}; `dms measure CONFIG --out {path}` makes one') from None
        except ValueError as error:
            raise TableError(f'latency table {path} is no JSON: {error}') from None
        if not isinstance(content, dict) or content.get('format') != FORMAT:
            raise TableError(f'latency table {path}: not a file of `dms measure`, whose `format` is {FORMAT!r}')
        if content.get('version') != VERSION:
            raise TableError(
                f'latency table {path}: version {content.get("version")!r}, this release reads {VERSION}; measure anew'
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = '.'.join(str(part) for part in first['loc'])
            raise TableError(f'latency table {path}: {place}: {first["msg"].removeprefix("Value error, ")}') from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Written to a temporary name, then renamed: whoever is killed leaves the former one whole."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}')
        temporary.write_text(json.dumps(self.model_dump(), indent=1) + '\n')
        temporary.replace(path)

    def told(self) -> str:
        """What it was measured for, in words."""
        return f'{self.model}, {self.backend} on {self.device_name}, batch {self.batch}, {self.threads} threads'
