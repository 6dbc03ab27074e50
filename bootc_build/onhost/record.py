"""Frozen records, as ``dataclass(frozen=True)`` makes them, for what ``bootc status`` needs.

``dataclasses`` imports ``inspect`` and compiles several functions for every class: on a slow host that took half of
the time of ``bootc status``. A `record` has no compiled code of its own. Type checkers take it for a dataclass, and
`dataclasses.replace`, ``fields`` and ``asdict`` work on it.
"""

from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from dataclasses import Field

_Class = TypeVar("_Class")


class _Fields:
    """What the functions of ``dataclasses`` look for, made when one of them does."""

    def __get__(self, _instance: object, owner: type) -> "dict[str, Field[Any]]":
        import dataclasses  # noqa: PLC0415 - see the module's docstring

        made = dataclasses.make_dataclass("Fields", list(owner.__annotations__.items()))
        return {field.name: field for field in dataclasses.fields(made)}


@dataclass_transform(frozen_default=True)
def record(cls: type[_Class]) -> type[_Class]:
    """Make a class with annotated fields a frozen record: it is compared, hashed and shown by its fields.

    Defaults are shared by all instances, so they have to be immutable. ``__post_init__`` is called. A record
    inherits no fields.
    """
    names = tuple(cls.__annotations__)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}

    def construct(self: object, *values: object, **named: object) -> None:
        if len(values) > len(names):
            raise TypeError(f"{cls.__name__} has {len(names)} fields, not {len(values)}")
        given = dict(zip(names, values, strict=False))
        unknown = [name for name in named if name not in names or name in given]
        missing = [
            name for name in names if not (name in given or name in named or name in defaults)
        ]
        if unknown or missing:
            raise TypeError(f"{cls.__name__}: wrong {unknown}, missing {missing}")
        self.__dict__.update(defaults, **given, **named)
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    def values_of(self: object) -> tuple[object, ...]:
        return tuple(self.__dict__[name] for name in names)

    def equal(self: object, other: object) -> bool:
        return values_of(self) == values_of(other) if type(other) is cls else NotImplemented

    def show(self: object) -> str:
        shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in names)
        return f"{cls.__qualname__}({shown})"

    def refuse(self: object, name: str, _value: object = None) -> None:
        raise AttributeError(f"'{name}' of a frozen {type(self).__name__} cannot be changed")

    methods = {
        "__init__": construct,
        "__eq__": equal,
        "__hash__": lambda self: hash(values_of(self)),
        "__repr__": show,
        "__setattr__": refuse,
        "__delattr__": refuse,
        "__match_args__": names,
        "__dataclass_fields__": _Fields(),
    }
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


def replace(instance: _Class, **changes: object) -> _Class:
    """A copy of a record with other values in some fields; `dataclasses.replace` without its module."""
    return type(instance)(**{**instance.__dict__, **changes})
