"""`POST /webhooks/stripe/`: who is believed, and that nothing is answered 200 without a row."""

import json
import time
from functools import partial

import pytest

from payments.models import WebhookEvent
from tests.payments.posting import ADDRESS, SECRETS, made_up, post, stored
from tests.purchases import sql
from tests.races import at_once
from tests.stripe_sandbox import signatures

pytestmark = pytest.mark.django_db

MAXIMUM_BYTES = 1024 * 1024


def refused(answer) -> tuple[int, str]:
    assert not WebhookEvent.objects.exists(), "a refused event leaves no row"
    return answer.status_code, answer.json()["code"]


@pytest.mark.row("P7")
def test_an_event_is_stored_before_it_is_answered(client):
    """P7: with what is believed (type, id of its object), as received, and nothing done yet."""
    event = made_up(api_version="2019-01-01", livemode=True)
    answer = post(client, event)
    assert (answer.status_code, answer.json()) == (200, {"received": True, "duplicate": False})
    row = stored(event)
    assert (row.type, row.object_id, row.status, row.attempts) == (event["type"], "pi_nobody_knows", "RECEIVED", 0)
    assert (row.api_version, row.is_livemode, row.payload) == ("2019-01-01", True, event)


@pytest.mark.row("P7", "HC-C11")
def test_hc_c11_a_duplicate_is_answered_and_stored_once(client):
    event = made_up()
    answers = [post(client, event).json()["duplicate"] for _ in range(3)]
    assert answers == [False, True, True]
    assert WebhookEvent.objects.count() == 1


@pytest.mark.row("P7", "HC-F1")
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        "t=abc,v1=abc",
        "v1=abc",
        f"t={int(time.time())}",
        f"t={int(time.time())},v1=é",
        f"t={int(time.time())},v0=abc",
        "t=99999999999999999999999,v1=abc",
        "t=1,t=2,v1=,v1=",
    ],
    ids=range(10),
)
def test_hc_f1_what_is_not_signed_is_refused(client, header):
    """HC-F1: missing, malformed and hostile headers: 400, never a 500, no row."""
    headers = {} if header is None else {"Stripe-Signature": header}
    answer = client.post(ADDRESS, made_up(), content_type="application/json", headers=headers)
    assert refused(answer) == (400, "bad_signature")


@pytest.mark.row("P7", "HC-F1")
def test_hc_f1_a_wrong_secret_is_refused(client):
    assert refused(post(client, made_up(), secret="whsec_somebody_elses")) == (400, "bad_signature")


@pytest.mark.row("P7", "HC-F4")
def test_hc_f4_old_and_new_secret_are_accepted_while_both_are_set(client, settings):
    """HC-F4: and the old one no longer once it is taken out."""
    for number, secret in enumerate(SECRETS):
        assert post(client, made_up(id=f"evt_{number}"), secret=secret).status_code == 200
    settings.STRIPE_WEBHOOK_SECRETS = [SECRETS[1]]
    assert post(client, made_up(id="evt_late"), secret=SECRETS[0]).status_code == 400
    settings.STRIPE_WEBHOOK_SECRETS = []
    assert post(client, made_up(id="evt_none"), secret=SECRETS[1]).status_code == 400
    assert WebhookEvent.objects.count() == 2


@pytest.mark.row("P7", "HC-F4")
def test_hc_f4_two_signatures_of_which_one_is_ours(client):
    """HC-F4: while Stripe rolls a secret it sends both."""
    body = json.dumps(made_up()).encode()
    header = post_header(body, "whsec_of_before") + "," + post_header(body, SECRETS[0]).split(",", 1)[1]
    answer = client.generic(
        "POST", ADDRESS, body, content_type="application/json", headers={"Stripe-Signature": header}
    )
    assert answer.status_code == 200


def post_header(body: bytes, secret: str) -> str:
    return signatures.header(body, [secret], timestamp=int(time.time()))


@pytest.mark.row("P7", "HC-F2")
@pytest.mark.parametrize(("age", "status"), [(290, 200), (310, 400), (86_400, 400)])
def test_hc_f2_an_old_signature_is_a_replay(client, age, status):
    """HC-F2: up to 300 seconds; within them a replay is a duplicate without effect."""
    answer = post(client, made_up(), sent_at=time.time() - age)
    assert answer.status_code == status
    assert WebhookEvent.objects.count() == (status == 200)


@pytest.mark.row("HC-F5")
def test_hc_f5_a_body_that_was_encoded_again_is_refused(client):
    """HC-F5: the raw bytes are what is signed; the same JSON with other blanks is another body."""
    body = json.dumps(made_up()).encode()
    again = json.dumps(json.loads(body), separators=(",", ":")).encode()
    headers = {"Stripe-Signature": post_header(body, SECRETS[0])}
    answer = client.generic("POST", ADDRESS, again, content_type="application/json", headers=headers)
    assert refused(answer) == (400, "bad_signature")


@pytest.mark.row("P7")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"7",
        b'{"id": 1, "type": "x"}',
        b'{"id": "evt_1"}',
        b'{"type": "x"}',
        b'{"id": null, "type": null}',
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_what_is_signed_but_no_event_is_unreadable(client, body):
    assert refused(post(client, body)) == (400, "invalid")


@pytest.mark.row("P7")
def test_bytes_that_are_no_text_are_refused(client):
    assert refused(post(client, b'{"id": "\xff\xfe"}'))[0] == 400


@pytest.mark.row("P7")
@pytest.mark.parametrize(
    "data", [None, [], "text", {"object": None}, {"object": {"id": 7}}, {"object": []}, {}], ids=range(7)
)
def test_events_in_an_unknown_shape_are_kept_all_the_same(client, data):
    """P7: only type and id must be there; what the object is, is found out later."""
    event = made_up(data=data)
    assert post(client, event).status_code == 200
    assert stored(event).object_id == ""


@pytest.mark.row("HC-F11")
def test_hc_f11_a_huge_body_is_413(client):
    """HC-F11: one byte more than 1 MiB; exactly 1 MiB is taken."""
    event = made_up(padding="")
    event["padding"] = "x" * (MAXIMUM_BYTES - len(json.dumps(event)))
    assert post(client, event).status_code == 200
    WebhookEvent.objects.all().delete()
    event["padding"] += "x"
    assert refused(post(client, event)) == (413, "too_large")
    event["padding"] *= 5
    assert refused(post(client, event)) == (413, "too_large")


@pytest.mark.row("P7")
def test_only_posts_are_taken(client):
    assert client.get(ADDRESS).status_code == 405


@pytest.mark.row("P7", "HC-M6")
@pytest.mark.django_db(transaction=True)
def test_hc_m6_what_cannot_be_stored_is_503_so_that_stripe_sends_it_again(client):
    """HC-M6: never 200 without a row; once the database takes it, it is new and not a duplicate."""
    sql("ALTER TABLE payments_webhookevent ADD CONSTRAINT refuses_everything CHECK (false) NOT VALID")
    try:
        assert refused(post(client, made_up())) == (503, "not_stored")
    finally:
        sql("ALTER TABLE payments_webhookevent DROP CONSTRAINT refuses_everything")
    assert post(client, made_up()).json() == {"received": True, "duplicate": False}


@pytest.mark.row("P7")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "event",
    [made_up(id="evt_" + "x" * 200), made_up(note="\0"), made_up(data={"object": {"id": "x" * 500}})],
    ids=["id too long", "NUL", "object id too long"],
)
def test_an_event_that_the_database_cannot_hold_is_not_answered_200(client, event):
    answer = post(client, event)
    assert (answer.status_code == 200) == WebhookEvent.objects.exists()
    assert answer.status_code in (200, 503)


@pytest.mark.row("P7", "HC-C11")
@pytest.mark.django_db(transaction=True)
def test_hc_c11_twenty_deliveries_at_once_are_one_row(client):
    """HC-C11: twenty times 200, of which one is new."""
    event = made_up()
    answers = at_once([partial(post, client, event)] * 20)
    assert [answer.status_code for answer in answers] == [200] * 20
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 19
    assert WebhookEvent.objects.count() == 1


@pytest.mark.row("P7", "HC-C11")
@pytest.mark.django_db(transaction=True)
def test_hc_c11_without_the_unique_key_the_deliveries_are_stored_many_times(client):
    """HC-C11, the guard off (and a slow disk): what the constraint on Stripe's id is for."""
    event = made_up()
    sql(
        "CREATE FUNCTION slow_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;"
        " CREATE TRIGGER slow_disk BEFORE INSERT ON payments_webhookevent FOR EACH ROW EXECUTE FUNCTION slow_disk()"
    )
    sql("ALTER TABLE payments_webhookevent DROP CONSTRAINT payments_webhookevent_stripe_id_key")
    try:
        at_once([partial(post, client, event)] * 20)
        assert WebhookEvent.objects.count() > 1
    finally:
        sql("DROP FUNCTION slow_disk() CASCADE")
        sql("TRUNCATE payments_webhookevent")
        sql("ALTER TABLE payments_webhookevent ADD CONSTRAINT payments_webhookevent_stripe_id_key UNIQUE (stripe_id)")
