"""Settings of apps, looked up as Celery does it but without making the names of a key anew each time."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

from celery import VERSION
from celery.utils.collections import ConfigurationView

__all__ = ["quick_settings"]
__tracebackhide__ = True


def quick_settings() -> AbstractContextManager[Any]:
    """Let settings be looked up quickly: a job asks for ten of them. Before Celery 5.7 names go before mappings, and nothing changes."""
    if VERSION < (5, 7):
        return nullcontext()
    return patch.object(ConfigurationView, "__getitem__", _looked_up(ConfigurationView.__getitem__))


def _looked_up(by_celery: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    names: dict[Any, tuple[str, ...]] = {}

    def getitem(view: Any, key: str) -> Any:
        known = key, view.prefix, view.key_t, view._keys
        try:
            under = names[known]
        except KeyError:
            under = names[known] = tuple(dict.fromkeys(view._key(name) for name in view._to_keys(key)))
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
