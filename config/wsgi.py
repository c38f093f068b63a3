"""The web process. Granian serves `config.wsgi:application`."""

import os

# The database pool belongs to the web process alone: Celery closes its connections after each task.
os.environ.setdefault("COUNTERFOIL_PROCESS", "web")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
