"""Chains, groups and chords whose messages come twice, late, or never, and whose parts fail or are killed."""

import celery
import pytest
from celery import Celery, chain, chord, group

from pytest_jobs import RunawayJobs

CELERY = tuple(int(part) for part in celery.__version__.split(".")[:2])
KINDS = {
    "redis": ("redis://localhost:6399/0", "redis://localhost:6399/0"),
    "counted": ("memory://localhost/", "cache+memory://"),
    "polled": ("amqp://guest@localhost:5679/shop", "file:///nowhere"),
}


class Shop:
    """An app whose tasks write down their runs; the value of each differs from run to run."""

    def __init__(self, kind):
        broker, backend = KINDS[kind]
        # In 5.3 the part that brings a counted header to its end fails with the chord, and calls the link_error once more.
        self.errbacks = 2 if kind == "counted" and CELERY < (5, 4) else 1
        self.app = Celery("canvas", broker=broker, backend=backend, set_as_current=False)
        self.app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)
        self.runs = []
        self.handed = []
        self.failing = set()

        @self.app.task(shared=False, name="canvas.part", bind=True)
        def part(task, name):
            number = sum(run == name for run in self.runs)
            self.runs.append(name)
            if name in self.failing:
                raise ValueError(name)
            return f"{name}{number}"

        @self.app.task(shared=False, name="canvas.step")
        def step(_, name):
            return part.run(name)

        @self.app.task(shared=False, name="canvas.body")
        def body(values, name="z"):
            self.runs.append(name)
            self.handed.append(values)
            if name in self.failing:
                raise ValueError(name)
            return name

        @self.app.task(shared=False, name="canvas.errback")
        def errback(*_):
            self.runs.append("errback")

        self.part, self.step, self.body, self.errback = part, step, body, errback

    def state(self, result):
        return self.app.AsyncResult(result.id).state


@pytest.fixture(params=KINDS)
def shop(request):
    return Shop(request.param)


@pytest.fixture
def at_rest(world):
    """Settle; nothing may be pending, scheduled or lost afterwards."""

    def settle(lost=()):
        world.settle()
        left = [job.name for job in (*world.pending, *world.scheduled, *world.lost)]
        assert left == list(lost)

    return settle


def test_a_chain_whose_middle_step_comes_again(world, shop, at_rest):
    """All that follows is published again: nothing in a chain remembers that it was."""
    world.duplicate("canvas.step", times=1)
    chain(shop.part.s("a"), shop.step.s("b"), shop.step.s("c")).delay()
    at_rest()
    assert sorted(shop.runs) == ["a", "b", "b", "c", "c"]


def test_a_chain_whose_step_is_killed(world, shop, at_rest):
    """A step that dies before it is done is done once more, and what follows once."""
    world.crash("canvas.step", times=1)
    result = chain(shop.part.s("a"), shop.step.s("b"), shop.step.s("c")).delay()
    at_rest()
    assert (shop.runs, shop.state(result)) == (["a", "b", "c"], "SUCCESS")


def test_a_chain_whose_step_fails(world, shop, at_rest):
    """What follows never runs; every link_error is called once."""
    shop.failing = {"b"}
    steps = chain(shop.part.s("a"), shop.step.s("b"), shop.step.s("c"))
    result = steps.on_error(shop.errback.si()).delay()
    at_rest()
    assert shop.runs == ["a", "b", "errback"]
    assert shop.state(result) in ("FAILURE", "PENDING")


def test_a_group_whose_member_is_killed(world, shop, at_rest):
    """Only that member runs again."""
    world.crash("canvas.part", after=True, times=1)
    result = group(shop.part.s(name) for name in "abc").delay()
    at_rest()
    assert sorted(shop.runs) == ["a", "a", "b", "c"]
    assert result.get() == ["a1", "b0", "c0"]


def make_chord(shop, names="ab", body=None):
    return chord([shop.part.s(name) for name in names], body or shop.body.s())


@pytest.mark.parametrize("after", [False, True])
def test_a_chord_whose_header_is_killed(world, shop, at_rest, after):
    """The body runs once, with every part's value."""
    world.crash("canvas.part", times=1, after=after)
    result = make_chord(shop).delay()
    at_rest()
    assert shop.handed == [["a1" if after else "a0", "b0"]]
    assert shop.state(result) == "SUCCESS"


def test_a_chord_whose_header_comes_late(world, shop, at_rest):
    """A part that is delivered once more when all is done changes nothing."""
    make_chord(shop).delay()
    at_rest()
    world.redeliver(world.all.of("canvas.part")[0])
    at_rest()
    assert (shop.runs.count("z"), shop.handed) == (1, [["a0", "b0"]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_chord_whose_header_comes_twice(world, kind):
    """The body runs once; before 5.7 Redis results count a part twice, and a sibling's value is lost."""
    shop = Shop(kind)
    result = make_chord(shop).delay()
    world.drain(limit=1)
    world.redeliver(world.all.of("canvas.part")[0])
    world.settle()
    displaced = kind == "redis" and CELERY < (5, 7)
    assert shop.handed == [["a0", "a1"] if displaced else ["a0", "b0"]]
    assert shop.state(result) == "SUCCESS"


def test_a_chord_whose_body_comes_twice(world, shop, at_rest):
    """The body is a task like others: it runs twice."""
    world.duplicate("canvas.body", times=1)
    make_chord(shop).delay()
    at_rest()
    assert shop.handed == [["a0", "b0"]] * 2


def test_a_chord_whose_body_is_killed(world, shop, at_rest):
    """It runs once more, with the same values."""
    world.crash("canvas.body", times=1, after=True)
    make_chord(shop).delay()
    at_rest()
    assert shop.handed == [["a0", "b0"]] * 2


def test_a_chord_whose_header_fails(world, shop, at_rest):
    """The body never runs, its link_error does, once (twice in Celery 5.3 where the backend counts)."""
    shop.failing = {"b"}
    body = shop.body.s()
    body.link_error(shop.errback.si())
    result = make_chord(shop, body=body).delay()
    at_rest()
    assert (shop.handed, shop.runs.count("errback"), shop.state(result)) == ([], shop.errbacks, "FAILURE")


def test_a_chord_whose_body_fails(world, shop, at_rest):
    """Its link_error runs once."""
    shop.failing = {"z"}
    body = shop.body.s()
    body.link_error(shop.errback.si())
    result = make_chord(shop, body=body).delay()
    at_rest()
    assert (len(shop.handed), shop.runs.count("errback"), shop.state(result)) == (1, shop.errbacks, "FAILURE")


def test_nested_chords_under_kills(world, shop, at_rest):
    """Each body runs once, each part that was killed once more."""
    world.crash("canvas.part", times=2)
    inner = chord([shop.part.s("a"), shop.part.s("b")], shop.body.s("m"))
    result = chord([inner, shop.part.s("c")], shop.body.s("z")).delay()
    at_rest()
    assert sorted(shop.runs) == ["a", "b", "c", "m", "z"]
    assert shop.handed[-1] == ["m", "c0"]
    assert shop.state(result) == "SUCCESS"


def test_chord_unlock_that_is_killed_or_comes_again(world, at_rest):
    """The task that polls for the header may be killed; when its message comes twice, the body runs twice."""
    shop = Shop("polled")
    world.crash("celery.chord_unlock", times=1)
    make_chord(shop).delay()
    at_rest()
    assert shop.handed == [["a0", "b0"]]
    world.duplicate("celery.chord_unlock", times=1)
    make_chord(shop, "cd").delay()
    at_rest()
    assert shop.handed[1:] == [["c0", "d0"]] * 2


def test_chord_unlock_polls_for_ever(world):
    """A part of a header that is lost never comes: the poll has no limit, which is said."""
    shop = Shop("polled")
    world.lose("canvas.part", times=1)
    make_chord(shop).delay()
    with pytest.raises(RunawayJobs, match=r"^chord_unlock does not come to rest: 1,000 deliveries of one job in one call"):
        world.settle()


@pytest.mark.parametrize("kind", ["redis", "counted"])
def test_a_lost_part_of_a_counted_header(world, kind):
    """The body is never published; the lost part is listed."""
    shop = Shop(kind)
    world.lose("canvas.part", times=1)
    result = make_chord(shop).delay()
    world.settle()
    assert (shop.handed, shop.state(result)) == ([], "PENDING")
    assert [job.name for job in world.lost] == ["canvas.part"]


def test_a_part_that_is_retried_outside_its_chord(world):
    """A new message by hand, instead of `self.retry`, is no part of the chord: its body never runs."""
    shop = Shop("redis")

    @shop.app.task(shared=False, bind=True, name="canvas.by_hand")
    def by_hand(task, tries=0):
        if not tries:
            by_hand.apply_async((1,), countdown=5)
            task.update_state(state="RETRY")
            raise celery.exceptions.Ignore
        return "late"

    result = chord([by_hand.s(), shop.part.s("b")], shop.body.s()).delay()
    world.settle()
    assert (shop.handed, shop.state(result)) == ([], "PENDING")


def test_replace_with_a_callback(world, shop, at_rest):
    """A task that replaces itself calls its callback once, killed or not."""

    @shop.app.task(shared=False, bind=True, name="canvas.replaced")
    def replaced(task):
        return task.replace(shop.part.s("r"))

    world.crash("canvas.part", times=1)
    replaced.apply_async(link=shop.body.s())
    at_rest()
    assert shop.handed == ["r0"]
