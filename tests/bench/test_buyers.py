"""Buyers against servers that misbehave, and the verdict over what they bought."""

import math
from array import array
from collections import Counter

import pytest

from deploy.bench.buyers import Bought, Line, Wish, WrongAnswer
from deploy.bench.jobs import Tally
from deploy.bench.load import Outcome
from deploy.bench.rows.purchases import Burst, _row
from deploy.bench.targets import Verdict
from tests.bench.servers import serving


@pytest.mark.parametrize(("status", "said"), [(503, "POST checkout: 503"), (0, "POST checkout: RemoteDisconnected")])
def test_whatever_is_no_success_is_a_wrong_answer_with_its_reason(status: int, said: str):
    with serving(lambda number: status) as server, pytest.raises(WrongAnswer, match=said):
        Line(server.port).ask("POST", "/api/v1/reservations/x/checkout/", {})


def test_after_a_broken_connection_the_next_purchase_has_a_new_one():
    with serving(lambda number: 0 if number == 0 else 503) as server:
        line = Line(server.port)
        for why in ("RemoteDisconnected", "503"):
            with pytest.raises(WrongAnswer, match=why):
                line.ask("GET", "/")
    assert len(server.asked) == 2


def test_purchases_that_ended_late_do_not_count_as_speed():
    bought = Bought(began=100.0, ended_at=[101.0, 103.0, 104.0, 104.5])
    assert bought.per_second(4.0) == 0.75


def test_what_the_buyers_process_says_arrives_whole():
    said = '{"began": 1.0, "ended_at": [2.0], "orders": [["CODE", "secret"]], "wrong": {"why": 2}}'
    assert Bought.loads(said) == Bought(1.0, [2.0], [], [["CODE", "secret"]], Counter(why=2))


def test_the_wish_says_everything():
    wish = Wish(1, 2, "rush", 3, "sk", "pk", "postgresql://", 16, purchases=5)
    assert '"purchases": 5' in wish.dumps()


def burst(*, p99_ms: float = 10.0, drained: float = 12.0, wrong: tuple[str, ...] = ()) -> Burst:
    tally = Tally(array("d", [1.0]), array("d", [p99_ms / 1_000]))
    return Burst(300, 10.0, Outcome(tally, 0.0, 10.0), drained, list(wrong))


@pytest.mark.parametrize(
    ("usual", "more", "ack", "drained"),
    [
        (burst(), burst(), Verdict.MOONSHOT, Verdict.MOONSHOT),
        (burst(), burst(p99_ms=101), Verdict.HELD, Verdict.MOONSHOT),
        (burst(), burst(drained=20.1), Verdict.MOONSHOT, Verdict.HELD),
        (burst(), burst(wrong=("lost",)), Verdict.HELD, Verdict.HELD),
        (burst(p99_ms=101), None, Verdict.MISSED, Verdict.HELD),
        (burst(drained=20.1), None, Verdict.HELD, Verdict.MISSED),
        (burst(drained=math.nan), None, Verdict.HELD, Verdict.MISSED),
        (burst(wrong=("lost",)), None, Verdict.MISSED, Verdict.MISSED),
    ],
)
def test_a_burst_is_held_against_both_its_goals(usual: Burst, more: Burst | None, ack: Verdict, drained: Verdict):
    """Two minutes for a minute's events: twice their length; and fast answers are no success where something got lost."""
    rows = [_row(row_id, usual, more, measured="") for row_id in ("PF9.ack", "PF9.drained")]
    assert [row.verdict for row in rows] == [ack, drained]
