# The product alone: no tests, no offline Stripe, no embedded services.
#
#   web      the default command
#   worker   celery -A config worker --queues checkout,email,background --without-mingle --without-gossip
#   beat     celery -A config beat --scheduler django_celery_beat.schedulers:DatabaseScheduler   (exactly one)
#   migrate  python manage.py migrate --noinput   (once per release, before the others)
#
# Settings come from the environment alone (.env.example); the container writes nothing but /tmp.

FROM python:3.11-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.lock /tmp/requirements.lock
RUN /opt/venv/bin/pip install --require-hashes --no-deps -r /tmp/requirements.lock

FROM python:3.11-slim-bookworm AS app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings
RUN groupadd --gid 10001 counterfoil \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin counterfoil
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
# .dockerignore lists what may come in.
COPY . .
# The key is thrown away with this command; collecting files signs nothing.
RUN SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
    DATABASE_URL=postgres://nobody@127.0.0.1/nothing \
    python manage.py collectstatic --noinput \
    && python -m compileall -q config ticketing reservations payments monitoring

USER 10001:10001
EXPOSE 8000
# Granian reads these, so that a deployment may change one without repeating the command.
ENV GRANIAN_HOST=0.0.0.0 \
    GRANIAN_PORT=8000 \
    GRANIAN_INTERFACE=wsgi \
    GRANIAN_WORKERS=2 \
    GRANIAN_BLOCKING_THREADS=64 \
    GRANIAN_BACKLOG=2048 \
    GRANIAN_BACKPRESSURE=2048 \
    GRANIAN_WEBSOCKETS=false \
    GRANIAN_RESPAWN_FAILED_WORKERS=true \
    GRANIAN_RESPAWN_INTERVAL=0.5 \
    GRANIAN_WORKERS_KILL_TIMEOUT=20
STOPSIGNAL SIGTERM
# Liveness touches nothing outside the process; the host name must be one the shop answers to.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as web; host = os.environ.get('ALLOWED_HOSTS', '').split(',')[0].strip().lstrip('.*'); web.urlopen(web.Request('http://127.0.0.1:8000/livez/', headers={'Host': host or 'localhost'}), timeout=4)"]
CMD ["python", "-m", "granian", "config.wsgi:application"]
