# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters declared once: type, default, unit, range and text, in one frozen dataclass.

A node's parameters and an algorithm's settings are subclasses of :class:`Params` with fields made
by :func:`param`. One declaration checks values, describes them to ROS and fills the tables of the
documents.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
import difflib
import math
import os
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Iterable


class ParameterError(ValueError):
    """One or more parameter values were rejected; the text names each with its limit."""


def param(  # noqa: PLR0913  keywords only
    default: Any,  # noqa: ANN401  any parameter type
    text: str,
    *,
    unit: str = '',
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    path: bool = False,
) -> Any:  # noqa: ANN401  what dataclasses.field returns
    """Declare one parameter of a :class:`Params` subclass.

    Args:
        default: default value; its type is the parameter's type.
        text: one line for help and tables.
        unit: SI unit, for errors and tables.
        low: smallest allowed value.
        high: largest allowed value.
        choices: the only allowed values of a text parameter.
        path: whether it names a file or folder: a leading ``~`` is expanded.
    """
    metadata = {'text': text, 'unit': unit, 'low': low, 'high': high, 'choices': choices}
    metadata['path'] = path
    return field(default=default, metadata=metadata)


def param_of(params: type[Params], name: str) -> Any:  # noqa: ANN401  as param
    """Declare a parameter that is one of another class: same default, text, unit and limits."""
    spec = next(spec for spec in fields(params) if spec.name == name)
    return field(default=spec.default, metadata=spec.metadata)


@dataclass(frozen=True, kw_only=True)
class Params:
    """Base of every parameter class: checks all fields.

    Raises:
        ParameterError: naming each faulty field with value, expectation and unit.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        faults = []
        for spec in fields(self):
            value = _as_declared(getattr(self, spec.name), hints[spec.name])
            faults += _faults_of(spec.name, value, hints[spec.name], spec.metadata)
            if spec.metadata['path'] and isinstance(value, str):
                value = _expanded_into(faults, spec.name, value)
            object.__setattr__(self, spec.name, value)  # for example an int for a float
        if faults:
            raise ParameterError('; '.join(faults))


def expanded(path: str) -> str:
    """Return a path with a leading ``~`` replaced by the home folder that it names.

    Raises:
        ValueError: there is no such user.
    """
    full = os.path.expanduser(path)  # noqa: PTH111  pathlib raises where there is no such user
    if full.startswith('~'):
        user = full.partition('/')[0]
        raise ValueError(f'{path!r} must begin with ~/ or an existing user, got {user!r}')
    return full


def _expanded_into(faults: list[str], name: str, path: str) -> str:
    try:
        return expanded(path)
    except ValueError as error:
        faults.append(f'{name}: {error}')
        return path


def _as_declared(value: Any, declared: Any) -> Any:  # noqa: ANN401
    """Convert what YAML may give in place of the declared type."""
    if declared is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if declared == tuple[str, ...] and isinstance(value, list):
        return tuple(value)
    return value


def _faults_of(name: str, value: Any, declared: Any, metadata: Any) -> list[str]:  # noqa: ANN401
    if declared == tuple[str, ...]:
        good = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        return [] if good else [f'{name} must be a list of strings, got {value!r}']
    if type(value) is not declared:
        return [f'{name} must be {declared.__name__}, got {value!r}']
    if metadata['choices'] and value not in metadata['choices']:
        return [f'{name} must be one of {", ".join(metadata["choices"])}, got {value!r}']
    return (
        [] if _in_range(value, metadata) else [f'{name} must be {expected(metadata)}, got {value}']
    )


def _in_range(value: Any, metadata: Any) -> bool:  # noqa: ANN401
    """Whether a number is finite and within its limits; other types have none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    low, high = metadata['low'], metadata['high']
    return (
        math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
    )


def expected(metadata: Any) -> str:  # noqa: ANN401
    """Describe the allowed range of a parameter, with its unit."""
    low, high, unit = metadata['low'], metadata['high'], metadata['unit']
    suffix = f' [{unit}]' if unit else ''
    if low is not None and high is not None:
        return f'in [{low:g}, {high:g}]{suffix}'
    if low is not None:
        return f'>= {low:g}{suffix}'
    if high is not None:
        return f'<= {high:g}{suffix}'
    return f'finite{suffix}'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence with the nearest known name; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f', did you mean {near[0]!r}?' if near else ''


def reject_unknown(names: Iterable[str], cls: type[Params], where: str) -> None:
    """Reject names that ``cls`` does not declare.

    Raises:
        ParameterError: with every unknown name and the nearest known one.
    """
    known = [spec.name for spec in fields(cls)]
    faults = [
        f'{where} has no parameter {name!r}{did_you_mean(name, known)}'
        for name in names
        if name not in known
    ]
    if faults:
        raise ParameterError('; '.join(faults))


def reject_bad_roles(role_names: tuple[str, ...]) -> None:
    """Reject role names that are empty or repeated.

    Raises:
        ParameterError: with all role names.
    """
    if not role_names or len(set(role_names)) != len(role_names) or not all(role_names):
        raise ParameterError(f'role_names must be non-empty and unique, got {list(role_names)}')


def describe(cls: type[Params]) -> list[tuple[str, str, str, str, str]]:
    """Return one row per parameter: name, default, unit, allowed values, text."""
    rows = []
    for spec in fields(cls):
        meta = spec.metadata
        allowed = ', '.join(meta['choices']) if meta['choices'] else expected(meta)
        numeric = isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool)
        if not numeric and not meta['choices']:
            allowed = ''
        default = '' if spec.default is MISSING else _default_text(spec.default)
        rows.append((spec.name, default, meta['unit'], allowed, meta['text']))
    return rows


def _default_text(default: Any) -> str:  # noqa: ANN401
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return '[' + ', '.join(default) + ']'
    return "''" if default == '' else str(default)
