"""Brokers and result backends as apps name them: nobody here speaks to their servers, so their drivers may be missing."""

from collections.abc import Callable
from typing import Any

from celery.app import backends
from celery.backends.base import Backend
from celery.exceptions import ImproperlyConfigured
from kombu import transport as transports_of_kombu
from kombu.transport import virtual

from pytest_jobs.errors import UsageError

__all__ = ["backend_named", "transports"]
__tracebackhide__ = True


class Driverless(virtual.Transport):
    """Stands for a transport of kombu's whose driver is not installed."""

    can_parse_url = True


def transports(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make the function that finds kombu's transport by its name.

    It raises `UsageError` for a name that kombu does not know.
    """

    def get_transport_cls(transport: Any = None) -> Any:
        try:
            return find(transport)
        except Exception as error:
            if transport in transports_of_kombu.TRANSPORT_ALIASES:
                return Driverless
            if not isinstance(error, KeyError):
                raise
        known = ", ".join(sorted(name for name in transports_of_kombu.TRANSPORT_ALIASES if name))
        raise UsageError(f"a broker URL begins with {transport!r}, which kombu does not know; allowed are {known}")

    return get_transport_cls


def backend_named(name: Any, loader: Any) -> tuple[Any, Any]:
    """Return the class of the result backend that an app names, Celery's plainest when its driver is missing, and its URL.

    Raises:
        UsageError: When Celery does not know it.
    """
    try:
        cls, url = backends.by_url(name, loader)
    except (ImportError, ImproperlyConfigured, AttributeError) as error:
        scheme = str(name).partition("://")[0].partition("+")[0]
        if scheme in backends.BACKEND_ALIASES and not isinstance(error, ImproperlyConfigured):
            return Backend, name
        if "." in scheme or ":" in scheme:
            raise
    else:
        return cls, url
    known = ", ".join(sorted(backends.BACKEND_ALIASES))
    raise UsageError(f"the result backend {name!r} is none that Celery knows; allowed are {known}")
