"""What a dead task leaves in the process, and the end of a process would take along."""

import _signal  # type: ignore[import-not-found, unused-ignore]
import atexit
import gc
import io
import os
import signal
import stat
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import compress
from types import AsyncGeneratorType, BuiltinFunctionType, CoroutineType, FrameType, GeneratorType, MappingProxyType
from typing import Any

from pytest_jobs.dying import Killed
from pytest_jobs.heldlocks import held_locks, let_go

__all__ = ["Remains", "bury"]

SUSPENDED = MappingProxyType({GeneratorType: "gi_frame", CoroutineType: "cr_frame", AsyncGeneratorType: "ag_frame"})
BUFFERED = (io.BufferedWriter, io.BufferedRandom)
KINDS = frozenset({*SUSPENDED, *BUFFERED})
NEVER = 1_000_000
SIGNALS = tuple(map(int, signal.valid_signals()))
INCREMENTAL = sys.version_info >= (3, 14)


def bury(error: BaseException) -> None:
    """Free the frames that an error of a dead task holds, while nothing of them can run any more."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        todo += [one.__context__, one.__cause__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
        held, one.__traceback__, one.__context__, one.__cause__ = one.__traceback__, None, None, None
        traceback.clear_frames(held)


class Remains:
    """Owns what one run made: while it runs, young objects stay young, so that a look at them is cheap."""

    def __init__(self) -> None:
        self._thresholds = gc.get_threshold()
        if self._thresholds[1] < NEVER:
            gc.set_threshold(self._thresholds[0], NEVER, self._thresholds[2])
        self._older = weakref.WeakSet(_young())
        self._aged: list[weakref.ref[Any]] = []
        gc.callbacks.append(self._grow_old)
        self._finalizers = frozenset(_finalizers())
        self._at_exit: list[Any] = []
        self._register = atexit.register
        self._remembering = atexit.register = self._remember
        self._signals = _signals()
        self._files: list[tuple[weakref.ref[Any], int]] = []
        self._locks: list[Any] = []
        self._hook: Callable[[Any], Any] | None = None
        self._quiet: warnings.catch_warnings[Any] | None = None

    def _remember(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._at_exit.append(function)
        return self._register(function, *args, **kwargs)

    def _grow_old(self, phase: str, info: dict[str, int]) -> None:
        """Note what a collection that the task itself asks for is about to make old."""
        if phase == "start" and info["generation"] > 0:
            self._aged += [weakref.ref(made) for made in _young() if made not in self._older]

    def _made(self) -> list[Any]:
        aged = [made for made in [one() for one in self._aged] if made is not None]
        return [*aged, *(made for made in _young() if made not in self._older)]

    def strike(self, frames: list[FrameType], is_project: Callable[[str], bool]) -> None:
        """Take from the dying task what works without any code of it: buffers, finalizers, an event loop."""
        self._locks = held_locks(frames, is_project)
        for made in self._made():
            if isinstance(made, BUFFERED):
                self._cut_off(made)
        for function in self._at_exit:
            atexit.unregister(function)
        for finalizer, found in _finalizers().items():
            if finalizer not in self._finalizers and isinstance(found.func, BuiltinFunctionType):
                found.func = _nothing
        _stop_loop()
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._quiet = warnings.catch_warnings()
        self._quiet.__enter__()
        warnings.simplefilter("ignore")

    def unlock(self) -> None:
        """Let go of the locks in memory that the dead task held, so that its threads come to their end."""
        let_go(self._locks)

    def clear(self, is_project: Callable[[str], bool]) -> None:
        """Free what is left of the dead task, as long as none of its code can run."""
        for made in self._made():
            if type(made) in SUSPENDED:
                frame: FrameType | None = getattr(made, SUSPENDED[type(made)])
                if frame is not None and is_project(frame.f_code.co_filename):
                    _end(made)
        made = frame = None
        gc.collect() if INCREMENTAL else gc.collect(1)
        for file, descriptor in self._files:
            _join_again(file(), descriptor)
        self.unlock()
        if threading.current_thread() is threading.main_thread():
            now = _signals()
            for number, handler in self._signals.items():
                if now[number] is not handler and handler is not None:
                    signal.signal(number, handler)

    def release(self) -> None:
        """Let go of the process."""
        if self._grow_old in gc.callbacks:
            gc.callbacks.remove(self._grow_old)
        if gc.get_threshold()[1] == NEVER:
            gc.set_threshold(*self._thresholds)
        if atexit.register is self._remembering:
            atexit.register = self._register
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
        if self._hook is not None and sys.unraisablehook == self._unraisable:
            sys.unraisablehook = self._hook
        self._hook = self._quiet = None

    def _unraisable(self, event: Any) -> None:
        """Swallow the noise of a dead task's objects that are freed, and nothing else."""
        if not isinstance(event.exc_value, Killed | Warning) and self._hook is not None:
            self._hook(event)

    def _cut_off(self, file: Any) -> None:
        """Lead what is still in a buffer nowhere, however the file is closed."""
        with suppress(OSError, ValueError):
            descriptor = file.fileno()
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._files.append((weakref.ref(file), os.dup(descriptor)))
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, descriptor, inheritable=False)
                os.close(nowhere)


def _young() -> Iterator[Any]:
    for generation in (0, 1):
        young = gc.get_objects(generation)
        yield from (made for made in compress(young, map(KINDS.__contains__, map(type, young))) if not _running(made))


def _running(made: Any) -> bool:
    """Tell whether a generator runs: one that is being freed does too, and weak references to it would dangle (CPython)."""
    attribute = SUSPENDED.get(type(made))
    if attribute is None:
        return False
    frame: FrameType | None = getattr(made, attribute)
    return getattr(made, attribute.replace("frame", "running")) or (frame is not None and frame.f_back is not None)


def _finalizers() -> dict[Any, Any]:
    return dict(getattr(weakref.finalize, "_registry", {}))


def _nothing(*_: Any, **__: Any) -> None:
    """Stand for what a dead process does not do."""


def _signals() -> dict[int, Any]:
    # `signal.getsignal` makes an enum member of each, for every run anew.
    return {number: _signal.getsignal(number) for number in SIGNALS}


def _stop_loop() -> None:
    """Let the event loop that runs here end, whoever else waits in it."""
    if "asyncio" in sys.modules:
        with suppress(RuntimeError):
            loop = sys.modules["asyncio"].get_running_loop()
            loop.set_exception_handler(lambda *_: None)
            loop.stop()


def _end(made: Any) -> None:
    """Finish a suspended generator; its project code dies at the first instruction."""
    with suppress(BaseException):
        if isinstance(made, AsyncGeneratorType):
            made.aclose().send(None)
        else:
            made.close()


def _join_again(file: Any, descriptor: int) -> None:
    """Let a file that the process still has be what it was, without what the dead task had not flushed."""
    with suppress(OSError, ValueError):
        if file is not None and not file.closed:
            file.flush()
            os.dup2(descriptor, file.fileno(), inheritable=False)
    os.close(descriptor)
