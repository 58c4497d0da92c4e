import asyncio
import functools
import unittest.mock
from unittest.mock import AsyncMock, MagicMock, Mock, PropertyMock, create_autospec

import pytest

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.mocks import MockProbe, available


class Killed(BaseException):
    pass


class Sink:
    def __init__(self, at="never", error=None):
        self.at = at
        self.error = error
        self.errors = []
        self.effects = []

    def before(self, effect, error):
        self.errors.append(error)
        self.strike("before", error)

    def after(self, effect, error):
        self.effects.append(effect)
        self.strike("after", error)

    def strike(self, place, error):
        if self.at == place and (self.error or error):
            raise self.error or error()

    @property
    def labels(self):
        return [effect.label for effect in self.effects]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = MockProbe()
    probe.install(recorder)
    yield probe
    probe.remove()


def test_a_call_is_one_effect(probe, recorder):
    """A call of a mock, its child or what it returned is an effect that may be repeated."""
    recorder.sink = sink = Sink()
    gateway = MagicMock(name="gateway")
    gateway.send(7, "welcome", retry=True)
    gateway().close()
    assert sink.labels == ["gateway.send(7, 'welcome', retry=True)", "gateway()", "gateway().close()"]
    assert [effect.target for effect in sink.effects] == ["mock:gateway.send", "mock:gateway", "mock:gateway().close"]
    assert {(effect.kind, effect.safe, effect.key) for effect in sink.effects} == {("mock", True, None)}
    gateway.send.assert_called_once_with(7, "welcome", retry=True)


def test_what_python_asks_is_no_call(probe, recorder):
    """Magic methods and properties of a mock are not in the timeline."""
    recorder.sink = sink = Sink()
    lock = MagicMock(name="lock")
    type(lock).name = PropertyMock(return_value="x")
    with lock as held:
        held.extend(30)
    str(lock), lock == 3, len(lock), lock[0], lock.name
    assert sink.labels == ["lock.__enter__().extend(30)"]


def test_nothing_outside_a_job(probe, recorder):
    """Outside a running job, and inside another effect, mocks are only mocks."""
    sink = Sink()
    mock = Mock(return_value=3)
    assert mock() == 3
    recorder.sink = sink
    with recorder.paused():
        assert mock() == 3
    assert sink.effects == []
    assert mock.call_count == 2


def test_a_fake_is_atomic(probe, recorder):
    """What a fake does with other mocks is part of the call."""
    recorder.sink = sink = Sink()
    inner = Mock(name="inner")
    Mock(name="outer", side_effect=lambda: inner())()
    assert sink.labels == ["outer()"]
    assert inner.called


def test_a_spy_hides_nothing(probe, recorder, monkeypatch):
    """The effects of real code behind a spy, or a wrapping mock, are seen."""
    inner = Mock(name="inner")

    class Gateway:
        def send(self, order):
            return inner(order)

    gateway = Gateway()
    spied = functools.wraps(gateway.send)(lambda *args: Gateway.send(gateway, *args))
    monkeypatch.setattr(gateway, "send", create_autospec(gateway.send, side_effect=spied, _name="send"))
    recorder.sink = sink = Sink()
    gateway.send(7)
    Mock(name="wrapping", wraps=inner)(8)
    assert sink.labels == ["inner(7)", "send(7)", "inner(8)", "wrapping(8)"]


def test_awaited_mocks(probe, recorder):
    """The call of an AsyncMock is seen around its await."""
    recorder.sink = sink = Sink()
    gateway = AsyncMock(name="gateway")
    gateway.send.return_value = "sent"
    assert asyncio.run(gateway.send(7)) == "sent"
    assert sink.labels == ["gateway.send(7)"]
    gateway.send.assert_awaited_once_with(7)


def test_autospecced_functions(probe, recorder):
    """A function made by `create_autospec` is a mock too."""

    def charge(order):
        """Charge."""

    fake = create_autospec(charge, return_value=1, _name="charge")
    probe.watch(fake)
    recorder.sink = sink = Sink("before")
    with pytest.raises(ConnectionError):
        fake(7)
    recorder.sink = sink = Sink()
    assert fake(7) == 1
    assert sink.labels == ["charge(7)"]


@pytest.mark.parametrize("kind", [MagicMock, AsyncMock])
def test_only_watched_mocks_can_fail(kind, probe, recorder):
    """A watched mock's calls, those of its children and results too, take the transient error; others have none."""

    def call(mock):
        answer = mock(1)
        return asyncio.run(answer) if kind is AsyncMock else answer

    recorder.sink = sink = Sink("before")
    unwatched, gateway = kind(), kind()
    call(unwatched)
    assert sink.errors == [None]
    probe.watch(gateway)
    with pytest.raises(ConnectionError):
        call(gateway.send)
    assert not gateway.mock_calls


@pytest.mark.parametrize("kind", [MagicMock, AsyncMock])
def test_a_kill_records_no_call(kind, probe, recorder):
    """A worker killed before the call leaves the mock uncalled."""
    gateway = kind(name="gateway")
    recorder.sink = sink = Sink("before", Killed())
    with pytest.raises(Killed):
        answer = gateway.send(7)
        asyncio.run(answer)
    assert gateway.mock_calls == [] and not gateway.send.called and sink.effects == []


def test_a_repr_that_raises(probe, recorder):
    """An argument that cannot be printed does not end the task."""

    class Broken:
        def __repr__(self):
            raise RuntimeError

    recorder.sink = sink = Sink()
    Mock(name="m")(Broken())
    Mock(name="m")("x" * 500)
    assert sink.labels[0] == "m(…)"
    assert len(sink.labels[1]) == 120


def test_remove_restores():
    """After `remove` a mock's call is the original function."""
    before = vars(unittest.mock.CallableMixin)["__call__"]
    probe = MockProbe()
    probe.install(Recorder())
    probe.refresh()
    assert vars(unittest.mock.CallableMixin)["__call__"] is not before
    probe.remove()
    assert vars(unittest.mock.CallableMixin)["__call__"] is before
    assert available()
    assert probe.read(frozenset()) == ({}, ())
