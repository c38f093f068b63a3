"""The empty view under bare Django: no middleware, no database, no application. Served by the same granian."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=[],
    ROOT_URLCONF="deploy.bench.empty_urls",
    SECRET_KEY="of no use, and not used",  # noqa: S106 - nothing here signs anything
)
application = get_wsgi_application()
