from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browsing import open_context, open_page
from tests.office import Office


@pytest.fixture
def page(browser: Browser, office: Office) -> Iterator[Page]:
    """A desktop browser; errors in the console or of our scripts fail the test."""
    with_complaints: list[str] = []
    context = open_context(browser, office.base_url, "desktop")
    yield open_page(context, with_complaints)
    context.close()
    assert with_complaints == []
