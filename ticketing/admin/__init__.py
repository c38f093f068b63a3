"""The back office. What every admin page shares is here, at the bottom of the arrow; the other apps build on it.

Money and statuses are shown and never edited: they are moved by domain functions, each behind a named action.
"""

from ticketing.admin import catalogue, emails, people, stock, tickets

__all__ = ["catalogue", "emails", "people", "stock", "tickets"]
