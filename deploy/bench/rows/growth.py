"""PF7 and PF13: does the past disturb the present, while it is swept up and when it has piled up?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from deploy.bench.catalogue import add_expired_holds, add_past_holds, new_sale
from deploy.bench.load import Outcome
from deploy.bench.office import Office, Pair
from deploy.bench.report import Row, judged
from reservations.models import Reservation, SweepRun
from ticketing.models import Quota

LONGEST_SWEEP_SECONDS = 600.0


def sweep(office: Office) -> Sequence[Row]:
    """The sweep runs in a process of its own, over holds on the very quota that buyers fight for."""
    office.fresh_start()
    sale = new_sale()
    count = office.size.expired_holds
    job = office.job(office.product, office.hold(sale))
    office.run(job)
    with office.stack.superuser() as database:
        add_expired_holds(database, sale, count)
    without = office.run(job)
    with office.running(office.job(office.product, office.hold(sale), seconds=LONGEST_SWEEP_SECONDS)) as buyers:
        time.sleep(0.3)
        code, last_line = office.manage("release_expired_holds")
        outcome = buyers.stop()
    run = SweepRun.objects.filter(name=SweepRun.Name.EXPIRED_HOLDS, by="command").latest("started_at")
    assert run.finished_at is not None, "the sweep did not finish"
    seconds = (run.finished_at - run.started_at).total_seconds()
    during = outcome.between(_monotonic(run.started_at), _monotonic(run.finished_at))
    wrong = _what_went_wrong(outcome, expired=count, code=code, last_line=last_line, quota=sale.quota)
    p99s = without.p_ms(99), during.p_ms(99)
    return [
        judged(
            "PF7.duration",
            count / seconds,
            f"{seconds:.1f} s for {count:,}",
            is_sound=not wrong,
            notes=("100,000 in 10 s are 10,000/s", *wrong),
            numbers={"seconds": seconds, "holds": count, "per_second": count / seconds},
        ),
        judged(
            "PF7.p99",
            p99s[1] / p99s[0],
            f"p99 {p99s[1]:.0f} ms",
            is_sound=not wrong,
            yardstick=f"p99 {p99s[0]:.0f} ms",
            ratio=p99s[1] / p99s[0],
            notes=(
                f"buyers' holds meanwhile: {len(during.tally.times) / seconds:,.0f}/s, without {without.per_second:,.0f}/s",
            ),
            numbers={"p99_ms": p99s[1], "p99_ms_without": p99s[0], "answers_meanwhile": len(during.tally.times)},
        ),
    ]


def _what_went_wrong(outcome: Outcome, *, expired: int, code: int, last_line: str, quota: int) -> list[str]:
    """The books after a sweep under fire: everything given back once, and nothing else."""
    found = []
    if code != 0:
        found.append(f"release_expired_holds ended with {code}: {last_line}")
    if outcome.unexpected(201):
        found.append(f"WRONG ANSWERS: {outcome.answers()}")
    released = Reservation.objects.filter(status=Reservation.Status.EXPIRED).count()
    if released != expired:
        found.append(f"{released} of {expired} holds were released")
    live = Reservation.objects.filter(status=Reservation.Status.ACTIVE).count()
    held = Quota.objects.get(pk=quota).held
    if held != live:
        found.append(f"{held} are counted as held, {live} holds are live")
    return found


def _monotonic(at: datetime) -> float:
    """A moment of the database's clock by ours; they are on one machine."""
    return at.timestamp() - time.time() + time.monotonic()


def past(office: Office) -> Sequence[Row]:
    """The yardstick runs beside each size, so that a slower machine is not taken for growth."""
    office.fresh_start()
    sale = new_sale()
    pairs: dict[int, Pair] = {}
    there = 0
    for count in office.size.past_holds:
        with office.stack.superuser() as database:
            add_past_holds(database, sale, count - there)
        there = count
        product = office.job(office.product, office.hold(sale))
        pairs[count] = office.in_turn(product, office.job(office.empty, office.nothing(sale)))
        office.say(f"PF13: {count:,} past holds, {pairs[count].product_per_second:,.0f}/s")
    least, *others = office.size.past_holds
    slower = max(pairs[least].ratio / pairs[count].ratio for count in others)
    wrong = sum(pair.unexpected(201) for pair in pairs.values())
    shown = "; ".join(
        f"{count:,} past holds: {pair.product_per_second:,.0f}/s = {pair.ratio:.2f} × empty view"
        for count, pair in pairs.items()
    )
    return [
        judged(
            "PF13",
            slower,
            f"{pairs[there].product_per_second:,.0f}/s after {there:,}",
            is_sound=wrong == 0,
            yardstick=f"{pairs[least].product_per_second:,.0f}/s after {least:,}",
            ratio=slower,
            notes=(shown, "each as a ratio to the empty view of its own moment")
            + ((f"{wrong} WRONG ANSWERS",) if wrong else ()),
            numbers={str(count): pair.ratio for count, pair in pairs.items()},
        )
    ]
