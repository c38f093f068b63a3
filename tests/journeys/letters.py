"""The letters that the office wrote to its mail folder."""

import email
import email.policy
import time
from email.message import EmailMessage
from pathlib import Path


def letters_to(mailbox: Path, address: str) -> list[EmailMessage]:
    """All letters to `address`; Django's file backend ends each with a line of dashes."""
    found = []
    for file in sorted(mailbox.glob("*.log")):
        for raw in file.read_bytes().split(b"\n" + b"-" * 79 + b"\n"):
            if raw.strip():
                letter = email.message_from_bytes(raw.lstrip(), policy=email.policy.default)
                if address in str(letter["To"]):
                    found.append(letter)
    return found


def wait_for_letter(mailbox: Path, address: str, seconds: float = 40) -> EmailMessage:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := letters_to(mailbox, address):
            return found[-1]
        time.sleep(0.2)
    raise AssertionError(f"no letter to {address}")
