"""The demo's mailbox reads exactly what Django's file backend writes."""

import json
import threading
from collections.abc import Iterator
from email.mime.image import MIMEImage
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from django.core.mail import EmailMultiAlternatives, get_connection

from deploy.local.mailbox import Handler


def send(folder: Path, subject: str) -> None:
    message = EmailMultiAlternatives(subject, "In plain words, Zoë.", "shop@example.org", ["zoë@example.org"])
    message.attach_alternative('<h1>Your ticket</h1><img src="cid:qr">', "text/html")
    picture = MIMEImage(b"\x89PNG not really", "png")
    picture.add_header("Content-ID", "<qr>")
    message.attach(picture)
    message.attach("ticket.pdf", b"%PDF-1.7 not really", "application/pdf")
    backend = "django.core.mail.backends.filebased.EmailBackend"
    get_connection(backend, file_path=str(folder)).send_messages([message])


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[str]:
    handler = type("BoundHandler", (Handler,), {"folder": tmp_path})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def fetch(url: str, **headers: str) -> tuple[str, str]:
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode(errors="replace"), str(answer.headers)


def test_an_empty_mailbox_says_so(mailbox: str) -> None:
    assert "No e-mail yet" in fetch(mailbox + "/")[0]


def test_a_message_shows_its_text_its_html_and_its_attachments(mailbox: str, tmp_path: Path) -> None:
    send(tmp_path, "Your <tickets>")
    listed = fetch(mailbox + "/")[0]
    assert "Your &lt;tickets&gt;" in listed and "Your <tickets>" not in listed

    (letter,) = json.loads(fetch(mailbox + "/messages.json")[0])["messages"]
    address = f"{mailbox}/messages/{letter['id']}"
    page = fetch(address + "/")[0]
    assert "In plain words, Zoë." in page and "ticket.pdf" in page and "<iframe sandbox=" in page

    html, headers = fetch(address + "/html")
    assert 'src="parts/0"' in html and "sandbox" in headers
    assert fetch(address + "/parts/0")[0].endswith("PNG not really")
    pdf, headers = fetch(address + "/parts/1")
    assert pdf.startswith("%PDF") and 'attachment; filename="ticket.pdf"' in headers


def test_half_written_and_strange_files_are_no_obstacle(mailbox: str, tmp_path: Path) -> None:
    send(tmp_path, "Whole")
    (whole,) = tmp_path.glob("*.log")
    (tmp_path / "half.log").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "empty.log").touch()
    (tmp_path / "odd.log").write_bytes(b"Subject: \xff\xfe odd\nDate: never\n\n\xff" + b"\n" + b"-" * 79 + b"\n")
    letters = json.loads(fetch(mailbox + "/messages.json")[0])["messages"]
    assert len(letters) == 2
    assert "Whole" in fetch(mailbox + "/")[0]


@pytest.mark.parametrize("path", ["/messages/..%2f..%2fetc%2fpasswd.0/", "/messages/nothing.0/", "/elsewhere"])
def test_unknown_addresses_are_404(mailbox: str, path: str) -> None:
    with pytest.raises(HTTPError, match="404"):
        fetch(mailbox + path)


def test_a_strange_host_name_is_refused(mailbox: str) -> None:
    with pytest.raises(HTTPError, match="421"):
        fetch(mailbox + "/", Host="attacker.example")
