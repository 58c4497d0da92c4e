"""What waits for a commit; `test_django.py` runs this beside `django_inside.py`, in a process of its own."""

import logging

import pytest
from django.db import connection, transaction
from django.test import TestCase
from django_inside import Killed, Order, Sink


def found():
    return sorted(Order.objects.values_list("cents", flat=True))


@pytest.fixture
def called():
    return []


# Hooks


def test_a_hook_outside_a_block(any_db, probe, recorder, called):
    """What a job registers where nothing has to be committed runs at once."""
    recorder.sink = Sink()
    transaction.on_commit(lambda: called.append(1))
    assert called == [1]


def test_a_hook_of_a_block(any_db, probe, recorder, called):
    """Hooks of a job run when its outermost block is committed, in order, in a test's transaction too."""
    recorder.sink = sink = Sink()
    with transaction.atomic():
        transaction.on_commit(lambda: called.append(list(sink.labels)))
        with transaction.atomic():
            Order.objects.create(cents=1)
            transaction.on_commit(lambda: called.append(found()))
        assert called == []
    assert called == [["INSERT orders", "COMMIT"], [1]]


def test_a_block_without_savepoint(any_db, probe, recorder, called):
    """The outermost block may be one that makes no savepoint."""
    recorder.sink = Sink()
    with transaction.atomic(savepoint=False):
        transaction.on_commit(lambda: called.append(1))
    assert called == [1]


def test_a_hook_of_what_was_rolled_back(any_db, probe, recorder, called):
    """Hooks go with their block."""
    recorder.sink = Sink()
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(lambda: called.append("inner"))
            raise ZeroDivisionError
        transaction.on_commit(lambda: called.append("outer"))
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: called.append("never"))
        raise ZeroDivisionError
    assert called == ["outer"]


def test_a_hook_that_registers_another(any_db, probe, recorder, called):
    """Both run."""
    recorder.sink = Sink()
    with transaction.atomic():
        transaction.on_commit(lambda: transaction.on_commit(lambda: called.append(1)))
    assert called == [1]


def test_hooks_that_fail(any_db, probe, recorder, called, caplog):
    """A robust one is logged; any other fails the job after its commit."""
    recorder.sink = Sink()
    with caplog.at_level(logging.ERROR), transaction.atomic():
        transaction.on_commit(lambda: 1 / 0, robust=True)
        transaction.on_commit(lambda: called.append(1))
    assert called == [1]
    assert "in on_commit()" in caplog.text
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Order.objects.create(cents=1)
        transaction.on_commit(lambda: 1 / 0)
    assert found() == [1]
    with pytest.raises(TypeError, match="callable"):
        transaction.on_commit("no hook")


def test_hooks_of_the_test_are_left_to_the_test(db, probe, recorder, called):
    """Outside of jobs nothing is changed, as long as the test's transaction is open."""
    with transaction.atomic():
        transaction.on_commit(lambda: called.append(1))
    recorder.sink = Sink()
    with transaction.atomic():
        Order.objects.create(cents=1)
    assert called == []


def test_captured_hooks_are_left_to_the_test(db, probe, recorder, called, django_capture_on_commit_callbacks):
    """Who asks for the hooks gets them."""
    recorder.sink = Sink()
    with django_capture_on_commit_callbacks() as callbacks, transaction.atomic():
        transaction.on_commit(lambda: called.append(1))
    assert (len(callbacks), called) == (1, [])
    with TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
        transaction.on_commit(lambda: called.append(2))
        assert called == []
    assert (len(callbacks), called) == (1, [2])
    transaction.on_commit(lambda: called.append(3))
    assert called == [2, 3]


def test_captures_are_left_as_they_were(probe, recorder):
    """When the probe goes, so do its hooks."""
    probe.remove()
    assert isinstance(vars(TestCase)["captureOnCommitCallbacks"], classmethod)
    probe.install(recorder)


# Blocks


@transaction.atomic
def decorated(*cents):
    for each in cents:
        Order.objects.create(cents=each)
    return


@pytest.mark.parametrize("inside", [True, False], ids=["job", "test"])
def test_what_a_block_wrote(inside, any_db, probe, recorder):
    """It is known of each block that is not the test framework's, before or after one asks; of a job's and the test's code."""
    recorder.sink = Sink() if inside else None
    assert recorder.open_blocks() == []
    Order.objects.create(cents=1)
    assert recorder.open_blocks() == []
    with transaction.atomic():
        before = recorder.open_blocks()
        Order.objects.count()
        assert before == [{}]
        with transaction.atomic():
            Order.objects.create(cents=2)
            assert recorder.open_blocks() == before == [{"orders": None}]
    assert recorder.open_blocks() == []
    with transaction.atomic():
        assert recorder.open_blocks() == [{}]
    assert before == [{"orders": None}]


def test_a_function_that_is_a_block(any_db, probe, recorder):
    """What one call wrote is not what another one wrote, though the block is the same object."""
    seen = []
    decorated(1)
    with transaction.atomic():
        seen += recorder.open_blocks()
    assert seen == [{}]


def test_no_blocks_without_the_probe(any_db, probe, recorder):
    """Nobody asks a probe that has gone."""
    probe.remove()
    with transaction.atomic():
        assert recorder.open_blocks() == []
    probe.install(recorder)


# Another job beside one whose block is open


@pytest.mark.parametrize("savepoint", [True, False])
def test_another_job_beside_an_open_block(savepoint, any_db, probe, recorder, called):
    """What it commits stays when the block that was open fails; the block goes on where it was."""
    recorder.sink = Sink()
    with pytest.raises(ZeroDivisionError), transaction.atomic(savepoint=savepoint):
        assert found() == []
        with recorder.nesting():
            Order.objects.create(cents=1)
            with transaction.atomic():
                Order.objects.create(cents=2)
                transaction.on_commit(lambda: called.append("beside"))
            assert called == ["beside"]
        Order.objects.create(cents=3)
        raise ZeroDivisionError
    assert found() == [1, 2]


def test_a_block_that_goes_on(any_db, probe, recorder, called):
    """Its hooks, and the blocks within it, are as they were."""
    recorder.sink = Sink()
    with transaction.atomic():
        transaction.on_commit(lambda: called.append("mine"))
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            with recorder.nesting():
                decorated(1)
                assert called == []
            Order.objects.create(cents=2)
            raise ZeroDivisionError
        Order.objects.create(cents=3)
    assert called == ["mine"]
    assert found() == [1, 3]


def test_another_job_that_is_killed(any_db, probe, recorder):
    """The block that was open is still there."""
    recorder.sink = Sink()
    with transaction.atomic():
        with recorder.nesting():
            recorder.sink = Sink("COMMIT", "before", Killed())
            with pytest.raises(Killed):
                decorated(1)
            probe.forget()
        recorder.sink = Sink()
        Order.objects.create(cents=3)
    assert found() == [3]


def test_no_other_job_beside_a_lock(any_db, probe, recorder):
    """A row that is locked for the job keeps others out, also where the database leaves the lock out."""
    Order.objects.create(cents=1)
    recorder.sink = Sink()
    with transaction.atomic():
        assert not recorder.holding
        Order.objects.select_for_update().get(cents=1)
        assert recorder.holding
    assert not recorder.holding


def test_no_other_job_in_the_middle_of_a_statement(any_db, probe, recorder):
    """SQLite makes the rows of RETURNING one by one, and opens no savepoint meanwhile."""
    asked = []

    class Asking(Sink):
        def after(self, effect, error):
            super().after(effect, error)
            asked.append(recorder.holding)

    recorder.sink = Asking()
    Order.objects.create(cents=1)
    assert asked == [True]
    assert not recorder.holding


def test_a_block_that_cannot_begin(db, probe, recorder, monkeypatch):
    """It leaves nothing open: the next one begins where it would have."""
    blocks = list(connection.atomic_blocks)
    recorder.sink = Sink()
    with monkeypatch.context() as patched:
        patched.setattr(connection.ops, "savepoint_create_sql", lambda sid: "SAVEPOINT of nothing at all")
        with pytest.raises(Exception, match="syntax"), transaction.atomic(savepoint=False):
            pass
    assert connection.atomic_blocks == blocks
    with transaction.atomic():
        Order.objects.create(cents=1)
    assert found() == [1]
