"""What Celery and billiard compute anew for each job although it never changes, computed once; and what is simpler than they take it to be."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from types import CodeType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from billiard.einfo import _Code, _Frame
from celery import VERSION
from celery.app import amqp, trace
from celery.utils.collections import ConfigurationView

__all__ = ["quick", "shown_by"]
__tracebackhide__ = True

PLAIN = frozenset({int, float, bool, type(None)})


@contextmanager
def quick() -> Iterator[None]:
    """Let Celery remember by what names a setting is looked up, and billiard what the code of an error's frame is like.

    And let Celery show plain arguments and results with `repr`, where its own way of showing them comes to the same.
    """
    with ExitStack() as stack:
        if VERSION >= (5, 7):  # before, names went before mappings
            stack.enter_context(patch.object(ConfigurationView, "__getitem__", _looked_up(ConfigurationView.__getitem__)))
        stack.enter_context(patch.object(_Frame, "Code", staticmethod(_described)))
        for module in (amqp, trace):
            stack.enter_context(patch.object(module, "saferepr", shown_by(module.saferepr)))
        yield


@cache
def _described(code: CodeType) -> Any:
    """Describe code as billiard does for each frame of each error: it lists the position of every instruction."""
    return _Code(code)


def shown_by(celery: Callable[..., str]) -> Callable[..., str]:
    """Make what shows a value as Celery does; it makes a token of each part of it, and streams them."""

    def saferepr(value: Any, maxlen: int | None = None, maxlevels: int = 3, seen: Any = None) -> str:
        kind = type(value)
        if maxlevels > 0 and (_plain(value) or (kind is tuple and all(map(_plain, value))) or (kind is dict and not value)):
            text = repr(value)
            if maxlen is None or len(text) < maxlen:
                return text
        return celery(value, maxlen, maxlevels, seen)

    return saferepr


def _plain(value: Any) -> bool:
    kind = type(value)
    return kind in PLAIN or (kind is str and value.isalnum())


def _looked_up(by_celery: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def getitem(view: Any, key: str) -> Any:
        try:
            under = _names(view.__class__, key, view.prefix, view.key_t, view._keys)
        except TypeError:  # a list of functions
            return by_celery(view, key)
        for mapping in view.maps:
            for name in under:
                try:
                    if type(mapping) is not dict or name in mapping:  # an error made and caught costs more than a look
                        return mapping[name]
                except KeyError:
                    pass
        return by_celery(view, key)

    return getitem


@lru_cache(2_000)
def _names(kind: Any, key: str, prefix: str | None, key_t: Any, keys: Any) -> tuple[str, ...]:
    """Return by what names a view looks for a setting."""
    view = SimpleNamespace(prefix=prefix, key_t=key_t, _keys=keys)
    return tuple(dict.fromkeys(kind._key(view, name) for name in kind._to_keys(view, key)))
