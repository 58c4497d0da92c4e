"""What a dead task may still do: nothing but let go of what the process holds."""

import dis
import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

__all__ = ["Killed", "innermost", "lets_go", "places", "running_frames", "waiting_exits"]
__tracebackhide__ = True


def running_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread."""
    # Up to Python 3.11.7 and 3.12.1 garbage that is collected meanwhile can lock the interpreter for ever (python/cpython#106883).
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collects:
            gc.enable()


class Killed(BaseException):
    """Raised where a task is killed, and again wherever its code would go on.

    Attributes:
        trace: The run that is dead.
    """

    def __init__(self, trace: Any = None) -> None:
        super().__init__("killed by pytest-jobs")
        self.trace = trace


# What keeps the interpreter's own books: an instruction of a handler that was entered has to take the error off again.
BOOKS = frozenset(dis.opmap[name] for name in ("PUSH_EXC_INFO", "COPY", "POP_EXCEPT", "RERAISE"))
CALLS_EXIT = dis.opmap["WITH_EXCEPT_START"]
AWAITS = dis.opmap["GET_AWAITABLE"]
# `__exit__` methods of libraries that wait for somebody who may be dead too.
WAITS = (("concurrent.futures", "Executor"), ("subprocess", "Popen"))


def lets_go(code: CodeType, offset: int) -> bool:
    """Tell whether a dead frame may run an instruction.

    Leaving a `with` block calls `__exit__`: that of project code dies at its first instruction, a lock is let go as the
    end of a process lets it go, and a library rolls back what a server would.
    """
    text = code.co_code
    if text[offset] == CALLS_EXIT:
        return text[offset + 2] != AWAITS
    return text[offset] in BOOKS


def waiting_exits() -> set[CodeType]:
    """Return the code of those `__exit__` methods that a dead task must not enter: they could wait for ever."""
    kinds = [getattr(sys.modules.get(module), name, None) for module, name in WAITS]
    return {kind.__exit__.__code__ for kind in kinds if kind is not None}


def places(frame: FrameType | None, end: CodeType | None) -> list[FrameType]:
    """Return the frames of a stack, innermost first, up to the one that runs `end`."""
    found = []
    while frame is not None and frame.f_code is not end:
        found.append(frame)
        frame = frame.f_back
    return found


def innermost(frame: FrameType | None, end: CodeType | None, is_project: Callable[[str], bool]) -> tuple[str, int] | None:
    """Return file and line of the innermost project code of a stack, None where there is none."""
    while frame is not None and frame.f_code is not end:
        if is_project(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None
