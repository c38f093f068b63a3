"""The demo's mailbox: shows the e-mails that Django's file backend wrote into a folder. Loopback only.

python -m deploy.local.mailbox --folder var/mailbox --port 8025
"""

from __future__ import annotations

import argparse
import json
import re
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.local import mailbox_pages as pages

# The backend ends each message with a line of 79 dashes and may put several into one file.
SEPARATOR = re.compile(rb"^-{79}\r?\n?", re.MULTILINE)
HOSTS = ("127.0.0.1", "localhost")
ISOLATED = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
ISOLATED += "img-src 'self' data:; base-uri 'none'; form-action 'none'"


class Letter:
    """One e-mail; `key` names it in links: file name and position in the file."""

    def __init__(self, key: str, message: EmailMessage, written_at: float) -> None:
        self.key = key
        self.message = message
        self.written_at = written_at

    def header(self, name: str) -> str:
        try:
            return str(self.message.get(name, ""))
        except (ValueError, IndexError, AttributeError, KeyError):  # the parser stumbles over damaged headers
            return "(unreadable)"

    @property
    def sort_key(self) -> tuple[float, float, str]:
        """By its date, which knows only seconds, then by the file's."""
        try:
            dated_at = parsedate_to_datetime(self.header("Date")).timestamp()
        except (ValueError, TypeError, OverflowError):
            dated_at = self.written_at
        return dated_at, self.written_at, self.key

    def body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return "" if part is None else _text_of(part)

    def parts(self) -> list[EmailMessage]:
        """Attachments and inline pictures; their position is their address."""
        bodies = [self.message.get_body((kind,)) for kind in ("plain", "html")]
        leaves = [part for part in self.message.walk() if not part.is_multipart()]
        return [part for part in leaves if not any(part is body for body in bodies)]

    def html(self) -> str:
        """The HTML body; pictures it carries itself (cid:) get an address, links open in a new tab."""
        text = self.body("html")
        for position, part in enumerate(self.parts()):
            name = str(part.get("Content-ID", "")).strip("<> ")
            if name:
                text = text.replace(f"cid:{name}", f"parts/{position}")
        return f'<base target="_blank">{text}'

    def summary(self) -> dict[str, str]:
        return {
            "id": self.key,
            "from": self.header("From"),
            "to": self.header("To"),
            "subject": self.header("Subject"),
            "date": self.header("Date"),
            "text": self.body("plain"),
        }


def _text_of(part: MIMEPart) -> str:
    try:
        return str(part.get_content())
    except (LookupError, ValueError):  # an unknown charset, or half a message
        payload = part.get_payload(decode=True)
        return payload.decode(errors="replace") if isinstance(payload, bytes) else ""


def read_folder(folder: Path) -> list[Letter]:
    letters = [letter for path in folder.glob("*.log") for letter in read_file(path)]
    return sorted(letters, key=lambda letter: letter.sort_key, reverse=True)


def read_file(path: Path) -> list[Letter]:
    """Messages of one file. One still being written lacks its closing line: it is shown once it is whole."""
    try:
        content, written_at = path.read_bytes(), path.stat().st_mtime
    except OSError:
        return []
    whole = SEPARATOR.split(content)[:-1]
    messages = (message_from_bytes(text.strip() + b"\n", policy=policy.default) for text in whole)
    return [
        Letter(f"{path.stem}.{position}", message, written_at)
        for position, message in enumerate(messages)
        if message.keys()
    ]


def find(folder: Path, key: str) -> Letter | None:
    stem, _, _ = key.rpartition(".")
    if not re.fullmatch(r"[\w-]+", stem):
        return None
    return next((letter for letter in read_file(folder / f"{stem}.log") if letter.key == key), None)


class Handler(BaseHTTPRequestHandler):
    server_version = "mailbox"
    sys_version = ""
    folder: Path

    def do_GET(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if host not in HOSTS:  # a strange site's name that points at this machine
            return self.answer(b"Not here.\n", "text/plain", HTTPStatus.MISDIRECTED_REQUEST)
        steps = [unquote(step) for step in urlsplit(self.path).path.strip("/").split("/")]
        if steps == [""]:
            return self.page(pages.list_page(read_folder(self.folder)))
        if steps == ["messages.json"]:
            letters = [letter.summary() for letter in read_folder(self.folder)]
            return self.answer(json.dumps({"messages": letters}).encode(), "application/json")
        if steps[0] == "messages" and len(steps) > 1:
            letter = find(self.folder, steps[1])
            if letter is not None:
                return self.letter(letter, steps[2:])
        return self.page(pages.missing_page(), HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def letter(self, letter: Letter, rest: list[str]) -> None:
        if not rest:
            return self.page(pages.letter_page(letter))
        if rest == ["html"]:
            return self.answer(letter.html().encode(), "text/html; charset=utf-8", policy=ISOLATED)
        if rest == ["source"]:
            return self.answer(letter.message.as_bytes(), "text/plain; charset=utf-8")
        parts = letter.parts()
        if len(rest) == 2 and rest[0] == "parts" and rest[1].isdigit() and int(rest[1]) < len(parts):
            return self.part(parts[int(rest[1])])
        return self.page(pages.missing_page(), HTTPStatus.NOT_FOUND)

    def part(self, part: EmailMessage) -> None:
        payload = part.get_payload(decode=True)
        body = payload if isinstance(payload, bytes) else b""
        is_picture = part.get_content_type() in ("image/png", "image/jpeg", "image/gif", "image/webp")
        kind = part.get_content_type() if is_picture else "application/octet-stream"
        name = re.sub(r"[^\w.@+-]", "_", part.get_filename() or "part")
        headers = {} if is_picture else {"Content-Disposition": f'attachment; filename="{name}"'}
        self.answer(body, kind, headers=headers)

    def page(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.answer(text.encode(), "text/html; charset=utf-8", status, policy=pages.POLICY)

    def answer(
        self,
        body: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        policy: str = "default-src 'none'; sandbox",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        always = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        length = {"Content-Type": kind, "Content-Length": str(len(body)), "Referrer-Policy": "no-referrer"}
        for name, value in {**always, **length, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Silence: links in e-mails carry secrets."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.mailbox", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    bound = type("BoundHandler", (Handler,), {"folder": options.folder})
    with ThreadingHTTPServer(("127.0.0.1", options.port), bound) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
