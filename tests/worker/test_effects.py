"""What jobs did, and `jobs.check_effects`."""

import sqlite3

import pytest
import requests
import responses

from pytest_jobs import Effect, UsageError

CHARGES = "https://pay.example/charges"


@pytest.fixture
def database(tmp_path):
    """A file with one table."""
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE payments (order_id INTEGER)")
    connection.close()
    return path


@pytest.fixture
def service():
    """A payment service that always agrees."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(CHARGES, json={})
        yield mock


@pytest.fixture
def charge(app, database, service):
    """A task that pays, and asks for the money."""

    @app.task(shared=False, acks_late=True, autoretry_for=(requests.ConnectionError,), retry_backoff=True, max_retries=2)
    def charge(order):
        connection = sqlite3.connect(database)
        connection.execute("INSERT INTO payments VALUES (?)", (order,))
        connection.commit()
        connection.close()
        requests.post(CHARGES, json={"order": order}, timeout=5)

    return charge


def labels(effects):
    return [effect.label for effect in effects]


def test_in_order_and_by_attempt(world, charge):
    """`jobs.effects` has those of all jobs; each attempt has its own."""
    fault = world.fail("requests.post", requests.ConnectionError("down"), times=1)
    job = world.run(charge, 7)
    assert fault.fired == 1
    assert labels(job.attempts[0].effects) == ["INSERT payments", "COMMIT", f"retry {charge.name}"]
    assert labels(job.attempts[1].effects) == ["INSERT payments", "COMMIT", f"POST {CHARGES}"]
    assert job.attempts[0].effects + job.attempts[1].effects == world.effects
    world.check_effects(job, ["INSERT payments", "INSERT payments", f"POST {CHARGES}"])


def test_as_expected(world, charge):
    """Labels, patterns, or the effects of another job."""
    job = world.run(charge, 7)
    world.check_effects(job, [f"POST {CHARGES}"])
    world.check_effects(job, ["INSERT *", "http:POST https://pay.example/*"])
    world.check_effects(job, [Effect("http", f"http:POST {CHARGES}", f"POST {CHARGES}", detail='{"order": 7}')])
    world.check_effects(world.run(charge, 7), job.attempts[0].effects)


def test_of_another_content(world, charge):
    """An `Effect` with other details is another one."""
    job = world.run(charge, 7)
    with pytest.raises(AssertionError, match=r"detail: \{\"order\": 7\}, not \{\"order\": 8\}"):
        world.check_effects(job, [Effect("http", f"http:POST {CHARGES}", f"POST {CHARGES}", detail='{"order": 8}')])


def test_what_came_since_the_job_was_asked_for(world, charge):
    """A second charge is found, though the job in hand is from before it."""
    job = world.run(charge, 7)
    world.redeliver(job)
    assert len(job.attempts) == 1
    with pytest.raises(AssertionError, match=r"^charge does not do as expected: POST .*: 1 expected, 2 done\n"):
        world.check_effects(job, [f"POST {CHARGES}"])


def test_only_of_this_job(world, charge):
    """What others did is theirs."""
    first, _ = world.run(charge, 7), world.run(charge, 8)
    world.check_effects(first, ["INSERT payments", "COMMIT", f"POST {CHARGES}"])


def test_the_nearest(world, charge):
    """What was not done is shown with what comes nearest to it."""
    job = world.run(charge, 7)
    with pytest.raises(AssertionError) as caught:
        world.check_effects(job, ["POST https://pay.example/charge"])
    assert str(caught.value).splitlines()[6:10] == [
        " nearest to POST https://pay.example/charge:",
        "   POST https://pay.example/charges",
        "   INSERT payments",
        "   COMMIT",
    ]


def test_never_ran(world, charge):
    """No verdict on a job that did not run, whatever is expected."""
    charge.delay(7)
    for expected in ([], ["INSERT payments"]):
        with pytest.raises(AssertionError, match=r"charge never ran \(pending\), so it had no effects$"):
            world.check_effects(world.all.one, expected)


def test_no_effects(world, app):
    """An empty list is right of a job that did nothing."""

    @app.task(shared=False)
    def add(a, b):
        return a + b

    world.check_effects(world.run(add, 2, 3), [])


@pytest.mark.parametrize("job", ["charge", None, 7])
def test_not_a_job(world, job):
    """A job is asked for."""
    with pytest.raises(UsageError, match=r"^jobs.check_effects was given .*; allowed is a job, as jobs.run returns it$"):
        world.check_effects(job, [])


def test_misuse(world, charge):
    """So is a list."""
    with pytest.raises(UsageError, match=r"^check_effects expects a list of effects, .*, not 'INSERT payments'$"):
        world.check_effects(world.run(charge, 7), "INSERT payments")
