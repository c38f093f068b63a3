"""The pages of the demo's mailbox: one stylesheet, one script, no assets."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.mailbox import Letter

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5d6570; --line: #dfe3e8; --page: #f6f7f9;
  --card: #fff;
  --accent: #1f5fbf }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a0a8b3; --line: #333a44;
  --page: #14171b;
  --card: #1d2127; --accent: #8ab4f8 } }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page) }
main { max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.25rem; margin: .5rem 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem }
a { color: var(--accent) }
ul.letters, ul.files { list-style: none; margin: 0; padding: 0; background: var(--card);
  border: 1px solid var(--line);
  border-radius: .5rem; overflow: hidden }
ul.letters li + li, ul.files li + li { border-top: 1px solid var(--line) }
ul.letters a { display: grid; grid-template-columns: 14rem 1fr auto; gap: 1rem; padding: .65rem 1rem;
  color: inherit; text-decoration: none }
ul.letters a:is(:hover, :focus-visible) { background: color-mix(in srgb, var(--accent) 12%, transparent) }
ul.letters span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
ul.letters .subject { font-weight: 600 }
ul.files a { display: block; padding: .5rem 1rem }
.soft { color: var(--soft) }
.empty { padding: 3rem 1rem; text-align: center; background: var(--card); border: 1px dashed var(--line);
  border-radius: .5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 0 1rem }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
iframe { width: 100%; height: 70vh; margin-top: 1rem;
  border: 1px solid var(--line); border-radius: .5rem; background: #fff;
  color-scheme: light }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: 1rem; margin: 0 }
@media (max-width: 40rem) { ul.letters a { grid-template-columns: 1fr;
  gap: 0 } dl { grid-template-columns: 1fr } }
"""

# Only the list is replaced, so a page being read or scrolled does not jump.
SCRIPT = """
setInterval(async () => {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#letters");
    const shown = document.querySelector("#letters");
    if (fresh && fresh.innerHTML !== shown.innerHTML) shown.replaceWith(document.adoptNode(fresh));
  } catch { /* the demo was stopped: keep what is shown */ }
}, 2000);
"""


def _fingerprint(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY = (
    f"default-src 'none'; img-src data:; style-src {_fingerprint(STYLE)}; script-src {_fingerprint(SCRIPT)}; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _page(title: str, body: str, script: str = "") -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main>"
        f"{f'<script>{script}</script>' if script else ''}</body></html>"
    )


def _when(letter: Letter) -> str:
    return letter.header("Date").replace(" -0000", " UTC").replace(" +0000", " UTC")


def list_page(letters: list[Letter]) -> str:
    rows = "".join(
        f'<li><a href="/messages/{letter.key}/"><span>{escape(letter.header("To"))}</span>'
        f'<span class="subject">{escape(letter.header("Subject"))}</span>'
        f'<span class="soft">{escape(_when(letter))}</span></a></li>'
        for letter in letters
    )
    empty = '<p class="empty soft">No e-mail yet. What the shop sends appears here by itself.</p>'
    content = f'<ul class="letters">{rows}</ul>' if rows else empty
    return _page(
        "Mailbox",
        '<h1>Mailbox <span class="soft">of the demo: nothing here was really sent</span></h1>'
        f'<div id="letters" aria-live="polite">{content}</div>',
        SCRIPT,
    )


def letter_page(letter: Letter) -> str:
    headers = "".join(
        f"<dt>{name}</dt><dd>{escape(letter.header(name))}</dd>"
        for name in ("From", "To", "Cc", "Reply-To", "Date")
        if letter.header(name)
    )
    files = "".join(
        f'<li><a href="/messages/{letter.key}/parts/{position}" download>'
        f"{escape(part.get_filename() or part.get_content_type())}</a></li>"
        for position, part in enumerate(letter.parts())
    )
    sections = [f"<h2>Attachments</h2><ul class='files'>{files}</ul>" if files else ""]
    if letter.body("html"):
        sandbox = "allow-popups allow-popups-to-escape-sandbox"
        sections.append(f'<iframe sandbox="{sandbox}" src="/messages/{letter.key}/html" title="E-mail"></iframe>')
    if letter.body("plain"):
        sections.append(f"<h2>Text</h2><pre>{escape(letter.body('plain'))}</pre>")
    return _page(
        letter.header("Subject") or "(no subject)",
        f'<p><a href="/">All e-mails</a></p><h1>{escape(letter.header("Subject") or "(no subject)")}</h1>'
        f"<dl>{headers}</dl>{''.join(sections)}"
        f'<p class="soft"><a href="/messages/{letter.key}/source">Source with all headers</a></p>',
    )


def missing_page() -> str:
    return _page("Not here", '<h1>There is no such e-mail.</h1><p><a href="/">All e-mails</a></p>')
