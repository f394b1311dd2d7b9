"""``slicer.parameterNodeWrapper``: typed attributes stored in a ``vtkMRMLScriptedModuleNode``.

The subset that HeartSeg uses, with the interface of the application: annotated fields become properties; values are
stored as parameters of the node and nodes as its node references, so that they are saved with the scene. Field types:
``bool``, ``int``, ``float``, ``str``, ``pathlib.Path``, ``enum.Enum`` and MRML node classes, also as ``T | None`` for
nodes, also with ``Annotated[T, Default(...), WithinRange(...), Minimum(...), Maximum(...), Choice(...)]``.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

IS_HEARTSEG_STANDIN = True


@dataclass(frozen=True)
class Default:
    """Value of a field that has never been set."""

    value: Any


class Validator:
    """Base class of validators, which raise ``ValueError`` for an invalid value."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Minimum(Validator):
    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"value must be at least {self.minimum}, got {value}")


@dataclass(frozen=True)
class Maximum(Validator):
    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"value must be at most {self.maximum}, got {value}")


@dataclass(frozen=True)
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"value must be within {self.minimum} and {self.maximum}, got {value}")


class Choice(Validator):
    def __init__(self, choices: Any) -> None:
        self.choices = tuple(choices)

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"value must be one of {self.choices}, got {value!r}")


@dataclass(frozen=True)
class _Field:
    """One annotated attribute."""

    name: str
    type: Any
    default: Any
    validators: tuple[Validator, ...]

    @property
    def is_node(self) -> bool:
        return hasattr(self.type, "GetNodeTagName")

    def write(self, node: Any, value: Any) -> None:
        if self.is_node:
            if value is not None and not isinstance(value, (str, self.type)):
                raise TypeError(f"{self.name} must be a {self.type.__name__} or None, got {type(value).__name__}")
            node_id = value if value is None or isinstance(value, str) else value.GetID()
            node.SetNodeReferenceID(self.name, node_id)
            return
        whole_number_for_float = self.type is float and type(value) is int
        if not isinstance(value, self.type) and not whole_number_for_float:
            raise TypeError(f"{self.name} must be {self.type.__name__}, got {type(value).__name__}")
        for validator in self.validators:
            validator.validate(value)
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        if issubclass(self.type, enum.Enum):
            return self.type[text]
        return self.type(text)

    def is_stored(self, node: Any) -> bool:
        return self.is_node or self.name in node.GetParameterNames()


_EMPTY: dict[type, Any] = {bool: False, int: 0, float: 0.0, str: "", pathlib.Path: pathlib.Path()}


def _field(name: str, annotation: Any, class_default: Any) -> _Field:
    extras: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *more = typing.get_args(annotation)
        extras = tuple(more)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = [t for t in typing.get_args(annotation) if t is not type(None)]
    is_node = hasattr(annotation, "GetNodeTagName")
    is_enum = isinstance(annotation, type) and issubclass(annotation, enum.Enum)
    if not (is_node or is_enum or annotation in _EMPTY):
        raise TypeError(f"parameter {name!r} has a type that cannot be stored: {annotation}")
    default = next((e.value for e in extras if isinstance(e, Default)), class_default)
    if default is None and not is_node:
        default = next(iter(annotation)) if is_enum else _EMPTY[annotation]
    return _Field(name, annotation, default, tuple(e for e in extras if isinstance(e, Validator)))


def _property(field: _Field) -> property:
    def get(self: Any) -> Any:
        return field.read(self.parameterNode)

    def put(self: Any, value: Any) -> None:
        field.write(self.parameterNode, value)

    return property(get, put)


def parameterNodeWrapper(wrapped: type) -> type:
    """Class decorator: annotated attributes become properties of the parameter node given to the constructor."""
    hints = typing.get_type_hints(wrapped, include_extras=True)
    fields = {name: _field(name, hint, getattr(wrapped, name, None)) for name, hint in hints.items()}

    def __init__(self: Any, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self.allParameters = {name: field.type for name, field in fields.items()}
        for field in fields.values():
            if not field.is_stored(parameterNode):  # stored values are not validated, as in the application
                field.write(parameterNode, field.default)

    def default(self: Any, name: str) -> Any:
        return fields[name].default

    def observe(self: Any, event: Any, callback: Callable[..., None], priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def no_gui(self: Any, *_: Any) -> None:
        raise RuntimeError("parameters cannot be connected to a panel: there is no Qt in this process")

    members: dict[str, Any] = {
        "__init__": __init__,
        "default": default,
        "dataType": lambda self, name: fields[name].type,
        "getValue": lambda self, name: getattr(self, name),
        "setValue": lambda self, name, value: setattr(self, name, value),
        "StartModify": lambda self: self.parameterNode.StartModify(),
        "EndModify": lambda self, was: self.parameterNode.EndModify(was),
        "Modified": lambda self: self.parameterNode.Modified(),
        "AddObserver": observe,
        "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
        "connectGui": no_gui,
        "disconnectGui": no_gui,
    }
    for name, member in {**members, **{n: _property(f) for n, f in fields.items()}}.items():
        setattr(wrapped, name, member)
    return wrapped
