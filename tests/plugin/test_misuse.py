"""Misuse of the marker, the settings and the command line is one clear sentence."""

import pytest

KINDS = "allowed are twice, late, crash, fail, reply-lost, overlap and all"

MARKERS = {
    '"thrice"': f"@pytest.mark.idempotent was given the schedule kind 'thrice'; {KINDS}",
    '"twice,crash"': f"@pytest.mark.idempotent was given the schedule kind 'twice,crash'; {KINDS}",
    '["twice"]': f"@pytest.mark.idempotent was given the schedule kind ['twice']; {KINDS}",
    "5": f"@pytest.mark.idempotent was given the schedule kind 5; {KINDS}",
    'ignore="charged"': "ignore='charged' is one string: give a list of patterns, ['charged']",
    "ignore=5": "ignore=5 is no list: give a list of patterns, ['payments.updated_at']",
    'tasks="shop.charge"': "@pytest.mark.idempotent was given tasks='shop.charge'; allowed is a list of task names, ['shop.charge']",
    "tasks=5": "@pytest.mark.idempotent was given tasks=5; allowed are tasks and their registered names, in a list",
    "tasks=[5]": "@pytest.mark.idempotent was given tasks=[5]; allowed are tasks and their registered names, in a list",
    "max_schedules=0": "@pytest.mark.idempotent was given max_schedules=0; allowed is a whole number from 1",
    "max_schedules=True": "@pytest.mark.idempotent was given max_schedules=True; allowed is a whole number from 1",
    "times=2": "@pytest.mark.idempotent got an unexpected keyword argument 'times'; "
    "allowed are kinds of schedules, ignore, tasks and max_schedules",
}


def test_markers_written_wrong(suite):
    """The test is an error of its own, nothing of it runs, and the next test does."""
    result = suite.run("\n".join(f"""
@pytest.mark.idempotent({given})
def test_{number}(jobs):
    charged.append("ran")
    raise SystemExit
""" for number, given in enumerate(MARKERS)) + """
@pytest.mark.idempotent
def test_next(jobs):
    jobs.run(charge_once, 7)
""")
    result.assert_outcomes(errors=len(MARKERS), passed=1)
    assert [line for line in result.outlines if line.startswith("UsageError: ")] == [f"UsageError: {said}" for said in MARKERS.values()]


def test_tasks_of_which_no_job_ran(suite):
    """A name that no job has would disturb nothing, and prove nothing."""
    result = suite.run("""
@pytest.mark.idempotent(tasks=["shop.chrage"])
def test_order(jobs):
    jobs.run(charge, 7)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        ">   def test_order(jobs):",
        "E   pytest_jobs.UsageError: test_order is marked idempotent for tasks=['shop.chrage'], but no job of them ran; "
        "there ran shop.charge",
    ])


@pytest.mark.parametrize("uses", ["jobs", ""])
def test_a_fixture_of_the_users_own_called_jobs(suite, uses):
    """It is not ours, so nothing would be explored; without the marker it is nobody's business."""
    result = suite.run(f"""
@pytest.fixture
def jobs():
    return []

@pytest.mark.idempotent
def test_marked({uses}):
    charged.append(7)

def test_plain(jobs):
    assert jobs == []
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([
        "E   pytest_jobs.UsageError: test_marked is marked idempotent, but its fixture jobs is not the one of pytest-jobs; rename it"
    ])


def test_the_plugin_that_owns_the_same_marker(suite):
    """With pytest-idempotent beside us the run stops at once and says what to switch off; either switch settles it."""
    suite.module(pytest_idempotent="")
    suite.test("""
@pytest.mark.idempotent
def test_order():
    charge_once.delay(7).get()
""")
    both = suite.run(None, "-p", "pytest_idempotent", apart=True)
    assert both.errlines == [
        "ERROR: pytest-jobs and pytest-idempotent both own the marker idempotent; "
        "switch one off with -p no:pytest_idempotent or -p no:jobs",
        "",
    ]
    assert both.ret == pytest.ExitCode.USAGE_ERROR
    suite.run(None, "-p", "no:pytest_idempotent", apart=True).assert_outcomes(passed=1)


SETTINGS = {
    "jobs_schedules = thrice": f"jobs_schedules was given the schedule kind 'thrice'; {KINDS}",
    "jobs_schedules =": f"jobs_schedules was given the schedule kind ''; {KINDS}",
    "jobs_broker = rabbit": "jobs_broker is 'rabbit'; allowed are auto, redis, rabbitmq, memory",
    "jobs_idempotency_headers = X:Key": "jobs_idempotency_headers has 'X:Key'; allowed are names of headers, for example X-Order-Key",
    "jobs_max_schedules = many": "jobs_max_schedules is 'many'; allowed is a whole number from 1",
    "jobs_start = tomorrow": "jobs_start is 'tomorrow'; allowed is an ISO instant, for example 2030-01-31T09:00:00+00:00",
    "jobs_source = nowhere": "jobs_source names 'nowhere'; allowed are paths that exist and importable modules",
    "jobs_source = ../nowhere": "jobs_source names '../nowhere'; allowed are paths that exist and importable modules",
    "--jobs-explore=thrice": f"--jobs-explore was given the schedule kind 'thrice'; {KINDS}",
    "--jobs-explore=": f"--jobs-explore was given the schedule kind ''; {KINDS}",
    "--jobs-explore=,": f"--jobs-explore was given the schedule kind ','; {KINDS}",
    "--jobs-schedule=thrice": "'thrice' is no schedule; allowed are once, twice, late@N, crash@N, fail@N, reply-lost@N, overlap@N, "
    "and several joined by +",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(suite, setting):
    """The run stops before any test, with the sentence alone."""
    on_the_command_line = setting.startswith("-")
    if not on_the_command_line:
        suite.ini(setting)
    result = suite.run("def test_nothing(): pass", *[setting] * on_the_command_line)
    assert [line for line in result.errlines if line] == [f"ERROR: {SETTINGS[setting]}"]
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.outlines == []


def test_a_world_in_a_world(suite):
    """The sentence stands at the line that opens the second one; nothing of ours is between."""
    result = suite.run("""
import pytest_jobs

def test_nested(jobs):
    with pytest_jobs.in_process_worker():
        raise SystemExit
""")
    lines = [line for line in result.outlines if line.strip(" ^") or not line]  # newer Pythons point at the call
    at = lines.index(">       with pytest_jobs.in_process_worker():")
    assert lines[at + 1 : at + 4] == [
        "E       pytest_jobs.UsageError: an in-process worker is active already (the fixture jobs, or in_process_worker()); "
        "use that one, worlds do not nest",
        "",
        "test_shop.py:16: UsageError",
    ]
    result.stdout.no_fnmatch_line("*contextlib*")
    result.assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("shop", 'jobs_app is \'shop\'; allowed is "module:attribute", for example "shop.celery:app"'),
        ("nowhere:app", "jobs_app is 'nowhere:app', which cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("shop:ap", "jobs_app is 'shop:ap', which cannot be imported (AttributeError: module 'shop' has no attribute 'ap')"),
        ("shop:charged", "jobs_app is 'shop:charged', which is [] and no Celery app"),
    ],
)
def test_an_app_that_cannot_be_had(suite, app, said):
    """Every test that wants it says so; the others run."""
    suite.ini(f"jobs_app = {app}")
    result = suite.run("""
def test_plain(jobs):
    raise SystemExit

@pytest.mark.idempotent
def test_marked():
    charge_once.delay(7)

def test_nothing():
    pass
""")
    result.assert_outcomes(errors=2, passed=1)
    assert [line for line in result.outlines if line.startswith("UsageError: ")] == [f"UsageError: {said}"] * 2
