"""What happens to chains, groups and chords, and what must come of it."""

from differential_nodes import Chain, Chord, Group, Job, Scenario


def _all(state, labels):
    return dict.fromkeys(labels, state)


PAIR = (Job("a"), Job("b"))
BODY = Job("z", takes=True)
BOTH = {"z": (["a0", "b0"],)}

CANVAS = (
    Scenario("chain", (Chain((Job("a"), Job("b", takes=True), Job("c", takes=True))),), "a0 b0 c0", {"c": "SUCCESS"},
             values={"b": ("a0",), "c": ("b0",)}),
    Scenario("chain whose second step fails", (Chain((Job("a"), Job("b", ("fail",)), Job("c"))),), "a0 b0",
             {"a": "SUCCESS", "b": "FAILURE", "c": "FAILURE"}),
    Scenario("chain whose second step is retried", (Chain((Job("a"), Job("b", ("retry:1", "ok")), Job("c"))),), "a0 b0 b1 c0",
             {"c": "SUCCESS"}, {"b": (1,)}),
    Scenario("chain whose second step comes again", (Chain((Job("a"), Job("b", ("requeue", "ok"), "late"), Job("c"))),),
             "a0 b0 b0+ c0", {"c": "SUCCESS"}),
    Scenario("chain whose step is ignored", (Chain((Job("a", ("ignore",)), Job("b"))),), "a0", _all("PENDING", "ab")),
    Scenario("group", (Group((Job("a"), Job("b"), Job("c"))),), "a0 b0 c0", _all("SUCCESS", "abc")),
    Scenario("group with a failing member", (Group((Job("a"), Job("b", ("fail",)), Job("c"))),), "a0 b0 c0",
             {"a": "SUCCESS", "b": "FAILURE", "c": "SUCCESS"}),
    Scenario("group of chains", (Group((Chain(PAIR), Chain((Job("c"), Job("d"))))),), "a0 b0 c0 d0", _all("SUCCESS", "abcd"),
             any_order=True),
    Scenario("chord", (Chord(PAIR, BODY),), "a0 b0 z0", {"z": "SUCCESS"}, values=BOTH),
    Scenario("chord of one", (Chord((Job("a"),), BODY),), "a0 z0", {"z": "SUCCESS"}, values={"z": (["a0"],)}),
    Scenario("chord whose header fails", (Chord((Job("a"), Job("b", ("fail",))), BODY),), "a0 b0",
             {"a": "SUCCESS", "b": "FAILURE", "z": "FAILURE"}),
    Scenario("chord whose header is retried", (Chord((Job("a", ("retry:1", "ok")), Job("b")), BODY),), "a0 b0 a1 z0",
             {"z": "SUCCESS"}, {"a": (1,)}, {"z": (["a1", "b0"],)}),
    Scenario("chord whose header comes again", (Chord((Job("a", ("requeue", "ok"), "late"), Job("b")), BODY),), "a0 b0 a0+ z0",
             {"z": "SUCCESS"}, values={"z": (["a1", "b0"],)}, any_order=True),
    Scenario("chord whose body fails", (Chord(PAIR, Job("z", ("fail",), takes=True, link_error=Job("e"))),), "a0 b0 z0 e0",
             {"z": "FAILURE", "e": "SUCCESS"}, values=BOTH),
    Scenario("chord whose body is retried", (Chord(PAIR, Job("z", ("retry:1", "ok"), takes=True)),), "a0 b0 z0 z1",
             {"z": "SUCCESS"}, {"z": (1,)}, {"z": (["a0", "b0"], ["a0", "b0"])}),
    Scenario("chord whose header fails, link_error of the body",
             (Chord((Job("a"), Job("b", ("fail",))), Job("z", takes=True, link_error=Job("e"))),), "a0 b0 e0",
             {"z": "FAILURE", "e": "SUCCESS"}),
    Scenario("chain into a chord", (Chain((Job("o"), Chord(PAIR, BODY))),), "o0 a0 b0 z0", {"z": "SUCCESS"}, values=BOTH),
    Scenario("chain of a group and a task", (Chain((Job("o"), Group(PAIR), BODY)),), "o0 a0 b0 z0", {"z": "SUCCESS"}, values=BOTH),
    Scenario("chord with a chain in its header", (Chord((Chain(PAIR), Job("c")), BODY),), "a0 b0 c0 z0", {"z": "SUCCESS"},
             values={"z": (["b0", "c0"],)}, any_order=True),
    Scenario("chord whose body is a chain", (Chord(PAIR, Chain((BODY, Job("y", takes=True)))),), "a0 b0 z0 y0", {"y": "SUCCESS"},
             values={**BOTH, "y": ("z0",)}),
    Scenario("chord in a chord", (Chord((Chord(PAIR, Job("m", takes=True)), Job("c")), BODY),), "a0 b0 c0 m0 z0", {"z": "SUCCESS"},
             values={"m": (["a0", "b0"],), "z": (["m0", "c0"],)}, any_order=True),
    Scenario("chord whose header is rejected", (Chord((Job("a"), Job("b", ("reject",), "late")), BODY),), "a0 b0",
             {"z": "FAILURE"}, older={(5, 7): {"states": {"z": "PENDING"}}}, on=("redis",)),
    Scenario("chord whose header is ignored", (Chord((Job("a"), Job("b", ("ignore",))), BODY),), "a0 b0", {"z": "PENDING"},
             on=("redis",)),
    Scenario("chord whose header expired", (Chord((Job("a"), Job("b", options={"expired": 60})), BODY),), "a0",
             {"b": "REVOKED", "z": "FAILURE"}, on=("redis",)),
)

A2 = Job("a", twice=True)
B2 = Job("b", twice=True)
# Before 5.7 Redis results count parts, not tasks: a part that comes twice takes the place of its sibling.
DISPLACED = {"older": {(5, 7): {"values": {"z": (["a0", "a1"],)}}}, "amqp": {"values": BOTH}}
INNER = {"m": (["a0", "b0"],), "z": (["m0", "c0"],)}
M = Job("m", takes=True)
DOUBLED = (
    Scenario("first step of a chain comes twice", (Chain((A2, Job("b"), Job("c"))),), "a0 a0 b0 b0 c0 c0", {"c": "SUCCESS"},
             any_order=True),
    Scenario("member of a group comes twice", (Group((A2, Job("b"))),), "a0 a0 b0", _all("SUCCESS", "ab"), any_order=True),
    Scenario("part of a header comes twice", (Chord((A2, Job("b")), BODY),), "a0 a0 b0 z0", {"z": "SUCCESS"}, values=BOTH, **DISPLACED),
    Scenario("last part of a header comes twice", (Chord((Job("a"), B2), BODY),), "a0 b0 b0 z0", {"z": "SUCCESS"}, values=BOTH,
             any_order=True),
    Scenario("whole header comes twice", (Chord((A2, B2), BODY),), "a0 a0 b0 b0 z0", {"z": "SUCCESS"}, values=BOTH, any_order=True,
             **DISPLACED),
    Scenario("failing part of a header comes twice",
             (Chord((Job("a", ("fail",), twice=True), Job("b")), Job("z", takes=True, link_error=Job("e"))),), "a0 a0 b0 e0",
             {"z": "FAILURE"}, any_order=True),
    Scenario("part of a header comes twice, fails the second time", (Chord((Job("a", ("ok", "fail"), twice=True), Job("b")), BODY),),
             "a0 a0 b0 z0", {"z": "SUCCESS"}, values=BOTH, any_order=True,
             older={(5, 7): {"runs": "a0 a0 b0", "states": {"z": "FAILURE"}, "values": {}}},
             amqp={"runs": "a0 a0 b0 z0", "states": {"z": "SUCCESS"}, "values": BOTH}),
    Scenario("part of an inner header comes twice", (Chord((Chord((A2, Job("b")), M), Job("c")), BODY),), "a0 a0 b0 c0 m0 z0",
             {"z": "SUCCESS"}, values=INNER, any_order=True,
             older={(5, 7): {"values": {"m": (["a0", "a1"],), "z": (["m0", "c0"],)}}}, amqp={"values": INNER}),
    # Without counters in the backend a chord is polled for, twice here.
    Scenario("step before a chord comes twice", (Chain((A2, Chord((Job("b"), Job("c")), BODY))),), "a0 a0 b0 b0 c0 c0 z0",
             {"z": "SUCCESS"}, amqp={"runs": "a0 a0 b0 b0 c0 c0 z0 z0"}, any_order=True),
    Scenario("failing job with a link_error comes twice", (Job("a", ("fail",), link_error=Job("e"), twice=True),), "a0 a0 e0 e0",
             {"a": "FAILURE"}, any_order=True),
    Scenario("linked job comes twice", (Job("a", link=Job("b"), twice=True),), "a0 a0 b0 b0", {"a": "SUCCESS"}, any_order=True),
)

# With a backend that counts parts, the second copy of a part completes the count, and joins a header that is not complete: for three seconds.
SLOW_PAIR = (Job("a", ("ok", "sleep:0.5"), twice=True), Job("b", ("sleep:1",)))
COUNTED = (
    Scenario("counted part of a header comes twice", (Chord(SLOW_PAIR, BODY),), "a0 a0 b0 z0", {"z": "SUCCESS"}, values=BOTH,
             any_order=True, on=("redis",)),
)
COUNTED_ALONE = (
    Scenario("counted part of a header comes twice, one child", (Chord(SLOW_PAIR, BODY),), "a0 a0 b0", {"a": "SUCCESS", "b": "SUCCESS", "z": "FAILURE"},
             ours={"runs": "a0 a0 b0 z0", "states": {"z": "SUCCESS"}, "values": BOTH}, any_order=True, on=("redis",)),
)
