import pytest

from deploy.bench import wire


def test_a_request_carries_its_body_and_its_length():
    content = wire.request("POST", "/a/", host="127.0.0.1:1", body=b"{}", headers={"Idempotency-Key": "k"})
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert head.startswith(b"POST /a/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n")
    assert b"\r\nContent-Length: 2" in head
    assert b"\r\nIdempotency-Key: k" in head


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
def test_an_answer_is_as_long_as_its_head_says(name: bytes):
    head = b"HTTP/1.1 201 Created\r\nX: y\r\n" + name + b": 5\r\n\r\n"
    assert wire.answer_at(head + b"12345") == (201, len(head) + 5)
    assert wire.answer_at(head[:-1]) is None


def test_some_answers_have_no_body_whatever_they_say():
    head = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    assert wire.answer_at(head) == (304, len(head))


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"]
)
def test_what_it_does_not_understand_is_no_answer(data: bytes):
    with pytest.raises(wire.BadAnswer):
        wire.answer_at(data)
