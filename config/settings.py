"""All settings, read from the environment (`.env.example` lists the variables).

One file, titled sections. Nothing here decides by the name of an environment ("staging", "production"): each
variable says one thing. Wrong or dangerous values are reported by `config.checks`, with stable ids.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE

from config.beat import SCHEDULE
from config.environment import env, read
from config.limit_windows import windows
from config.logs import LEVELS, logging_config

# --- Where things are -------------------------------------------------------------------------------------------------

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"
VAR_DIR = BASE_DIR / "var"
PROCESS = os.environ.get("COUNTERFOIL_PROCESS", "command")  # web, worker, beat: each loads only what it needs

# --- Security ---------------------------------------------------------------------------------------------------------

UNSAFE_SECRET_KEY = "unsafe-and-only-for-a-developer's-own-machine"  # noqa: S105 - refused by check E002 unless DEBUG
SECRET_KEY = read(env.str, "SECRET_KEY", UNSAFE_SECRET_KEY)
DEBUG = read(env.bool, "DEBUG", False)
IS_DEMO = read(env.bool, "DEMO", False)
ALLOWED_HOSTS = read(env.list, "ALLOWED_HOSTS", ["localhost", "127.0.0.1"])

# Where buyers reach us; links in e-mails are made from it, never from a request's Host header.
PUBLIC_URL = read(env.str, "PUBLIC_URL", f"https://{ALLOWED_HOSTS[0]}" if ALLOWED_HOSTS else "").rstrip("/")
IS_HTTPS = urlsplit(PUBLIC_URL).scheme == "https"

CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
CSRF_FAILURE_VIEW = "config.pages.csrf_failure"
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = IS_HTTPS
CSRF_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = IS_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^livez/$", r"^readyz/$"]  # probes speak plain HTTP to the container
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
# Not for subdomains, no preloading: both would bind other people's services under the organiser's domain.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"  # with no-referrer, browsers send "Origin: null" and Django refuses the forms
X_FRAME_OPTIONS = "DENY"

# Proxies in front of us whose X-Forwarded-For / -Proto may be believed (addresses or networks; config.proxies).
TRUSTED_PROXIES = read(env.list, "TRUSTED_PROXIES", [])
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Applications -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    # Ours, from the top of the arrow down: each may use what stands below it (docs/architecture.md).
    "monitoring",
    "payments",
    "reservations",
    "ticketing",
    "unfold",
    "django.contrib.admin.apps.SimpleAdminConfig",  # config.apps finds the admin pages, where there are pages
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_structlog",
    "anymail",
    "csp",
    "waffle",
    "config.apps.ConfigConfig",
]

MIDDLEWARE = [
    "config.request_id.RequestIdMiddleware",
    "config.proxies.TrustedProxiesMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.content_policy.ContentPolicyMiddleware",
    "config.pages.CacheRulesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

# What a rush consists of, answered in front of Django's handler (config.fast_path, docs/decisions/0007).
FAST_PATHS = {
    "POST /api/v1/reservations/": "reservations.fast_path.reserve",
    r"GET /api/v1/events/(?P<slug>[-a-zA-Z0-9_]+)/availability/": "reservations.fast_path.event_availability",
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.pages.notices",
            ],
        },
    }
]

# --- People -----------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "ticketing.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "admin:login"

# --- Database ---------------------------------------------------------------------------------------------------------
# PostgreSQL only. Timeouts are set on the role by a migration, so that PgBouncer in transaction mode works.

DATABASES = {
    "default": read(env.dj_db_url, "DATABASE_URL", {"ENGINE": "django.db.backends.postgresql", "NAME": "counterfoil"})
}
_is_web = PROCESS == "web"
DATABASES["default"].update(
    ATOMIC_REQUESTS=False,
    DISABLE_SERVER_SIDE_CURSORS=True,
    CONN_MAX_AGE=0 if _is_web else 60,
    CONN_HEALTH_CHECKS=True,  # a connection that died with the server must not cost a buyer an error
)
DATABASES["default"].setdefault("OPTIONS", {}).update(
    application_name=f"counterfoil-{PROCESS}",
    prepare_threshold=5 if read(env.bool, "DATABASE_PREPARED", False) else None,
)
if _is_web:  # few connections: more of them than cores make a hot quota row slower, not faster
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": read(env.int, "DATABASE_POOL_SIZE", 8),
        "timeout": 5,
    }

# --- Celery: nudges only, no correctness (docs/decisions/0003) -----------------------------------------------------------

REDIS_URL = read(env.str, "REDIS_URL", "redis://localhost:6379/0")
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_PUBLISH_RETRY = False  # a dead broker must cost the buyer milliseconds: the sweeps find the row
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 1, "socket_timeout": 5, "max_retries": 0}
CELERY_TASK_DEFAULT_QUEUE = "background"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 2_000
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_SOFT_TIME_LIMIT = 60
CELERY_TASK_TIME_LIMIT = 90
CELERY_DB_REUSE_MAX = 500  # tasks; a connection each would cost more than the task itself (config.celery)
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_BEAT_SCHEDULE = SCHEDULE

# --- Feature flags (django-waffle; config.features) ---------------------------------------------------------------------
# Kept in each process's memory for seconds: asking costs no query and no Redis, and what staff switch is soon known.

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "switches": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "switches",
        "TIMEOUT": 10,
    },
}
WAFFLE_CACHE_NAME = "switches"
WAFFLE_ENABLE_ADMIN_PAGES = False  # ours are in the theme's look

# --- Reservations -----------------------------------------------------------------------------------------------------

HOLD_SWEEP_BATCH = read(env.int, "HOLD_SWEEP_BATCH", 500)
HOLD_KEEP_DAYS = read(env.int, "HOLD_KEEP_DAYS", 30)
# Unmet demand is written by a timer of the web process (reservations.demand); 0 elsewhere: by hand.
DEMAND_FLUSH_SECONDS = 1.0 if _is_web else 0.0
# Holds of one event that may share a round trip to the database; 1 sends each by itself (reservations.holds).
HOLD_BATCH = read(env.int, "HOLD_BATCH", 64)

# --- Rate limits (config.rate_limits; the notation: config.limit_windows) -----------------------------------------------

RATE_LIMITS = read(env.bool, "RATE_LIMITS", True)
HOLD_LIMIT_PER_BUYER = read(env.str, "HOLD_LIMIT_PER_BUYER", "10/m", validate=windows)
HOLD_LIMIT_PER_ADDRESS = read(env.str, "HOLD_LIMIT_PER_ADDRESS", "60/m", validate=windows)
# All buyers together: burst, rate and daily quota, as 200/s,5000/m,100000/d.
HOLD_LIMIT_OVERALL = read(env.str, "HOLD_LIMIT_OVERALL", "off", validate=windows)
CHECKOUT_LIMIT_PER_BUYER = read(env.str, "CHECKOUT_LIMIT_PER_BUYER", "20/m", validate=windows)
CHECKOUT_LIMIT_PER_ADDRESS = read(env.str, "CHECKOUT_LIMIT_PER_ADDRESS", "120/m", validate=windows)
# Asking Stripe about an order, and cancelling one.
SYNC_LIMIT_PER_ADDRESS = read(env.str, "SYNC_LIMIT_PER_ADDRESS", "120/m", validate=windows)

# --- Stripe -----------------------------------------------------------------------------------------------------------

STRIPE_SECRET_KEY = read(env.str, "STRIPE_SECRET_KEY", "")
STRIPE_PUBLISHABLE_KEY = read(env.str, "STRIPE_PUBLISHABLE_KEY", "")
STRIPE_WEBHOOK_SECRETS = read(env.list, "STRIPE_WEBHOOK_SECRETS", [])
STRIPE_API_BASE = read(env.str, "STRIPE_API_BASE", "https://api.stripe.com").rstrip("/")
STRIPE_JS_URL = read(env.str, "STRIPE_JS_URL", "https://js.stripe.com/v3/")
STRIPE_CONNECT_TIMEOUT_SECONDS = read(env.float, "STRIPE_CONNECT_TIMEOUT_SECONDS", 3.0)
STRIPE_READ_TIMEOUT_SECONDS = read(env.float, "STRIPE_READ_TIMEOUT_SECONDS", 10.0)
# Tries of one call, and the shortest and longest wait between two of them (exponential, with jitter).
STRIPE_TRIES = read(env.int, "STRIPE_TRIES", 3)
STRIPE_SHORTEST_WAIT_SECONDS = read(env.float, "STRIPE_SHORTEST_WAIT_SECONDS", 1.0)
STRIPE_LONGEST_WAIT_SECONDS = read(env.float, "STRIPE_LONGEST_WAIT_SECONDS", 10.0)
# How long a bank may take to answer: payments that wait for it are not offered later than so long before the start.
SLOW_PAYMENT_DAYS = read(env.int, "SLOW_PAYMENT_DAYS", 14)
# Written into Stripe's metadata, so that people can tell payments of several installations on one account apart.
STRIPE_METADATA_ENV = read(env.str, "STRIPE_METADATA_ENV", urlsplit(PUBLIC_URL).netloc or "counterfoil")

# --- E-mail -----------------------------------------------------------------------------------------------------------
# Resend with a key, any SMTP server with EMAIL_URL, else files in a folder and a warning that stands in the admin.

DEFAULT_FROM_EMAIL = read(env.str, "DEFAULT_FROM_EMAIL", "tickets@localhost")
EMAIL_TIMEOUT = 10
RESEND_API_KEY = read(env.str, "RESEND_API_KEY", "")
EMAIL_FILE_PATH = read(env.str, "MAIL_FOLDER", str(VAR_DIR / "mailbox"))
ANYMAIL = {"RESEND_API_KEY": RESEND_API_KEY, "REQUESTS_TIMEOUT": EMAIL_TIMEOUT}
_smtp = read(env.dj_email_url, "EMAIL_URL", {})
if RESEND_API_KEY:
    EMAIL_BACKEND = "anymail.backends.resend.EmailBackend"
elif _smtp:
    EMAIL_BACKEND = _smtp["EMAIL_BACKEND"]
    EMAIL_HOST, EMAIL_PORT = _smtp["EMAIL_HOST"], _smtp["EMAIL_PORT"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _smtp["EMAIL_HOST_USER"], _smtp["EMAIL_HOST_PASSWORD"]
    EMAIL_USE_TLS, EMAIL_USE_SSL = _smtp["EMAIL_USE_TLS"], _smtp["EMAIL_USE_SSL"]
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"

# --- Pages and static files -------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en-gb"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = read(env.str, "STATIC_ROOT", str(BASE_DIR / "staticfiles"))
STATICFILES_DIRS = [BASE_DIR / "config" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "config.static_files.HashedFiles"
    },
}
WHITENOISE_USE_FINDERS = DEBUG


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# What Stripe's own pages need (docs.stripe.com/security/guide#content-security-policy), nothing else from outside.
_stripe_js = [_origin(STRIPE_JS_URL)]
_stripe_frames = [*_stripe_js]
if _stripe_js == ["https://js.stripe.com"]:
    _stripe_js += ["https://*.js.stripe.com"]
    _stripe_frames += ["https://*.js.stripe.com", "https://hooks.stripe.com"]
_stripe_checkout = [
    "https://checkout.stripe.com" if STRIPE_API_BASE == "https://api.stripe.com" else _origin(STRIPE_API_BASE)
]
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ("/api/docs/",),
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, *_stripe_js],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF, _origin(STRIPE_API_BASE), *_stripe_js],
        "frame-src": _stripe_frames,
        # A form of ours may end in a redirect to Stripe's payment page, which Chromium counts as its action.
        "form-action": [SELF, *_stripe_checkout],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    },
}

# --- The JSON contract ------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    # Anonymous buyer calls switch authentication off per view, so no cookie is read and no CSRF token needed there.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "knox.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.json_bodies.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.problems.answer_exception",
    "UNAUTHENTICATED_USER": None,
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "Counterfoil",
    "DESCRIPTION": "Hold, buy and keep tickets. Money is an integer of minor units beside its currency; times are UTC.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    # Several fields are called "status"; these are the names of their enums in the schema.
    "ENUM_NAME_OVERRIDES": {
        "ReservationStatusEnum": "reservations.serializers.RESERVATION_STATUSES",
        "OrderStatusEnum": "payments.serializers.ORDER_STATUSES",
        "TicketStatusEnum": "payments.serializers.TICKET_STATUSES",
    },
}

# --- Monitoring -------------------------------------------------------------------------------------------------------

LOG_LEVEL = read(env.str, "LOG_LEVEL", "INFO").upper()
LOGGING = logging_config(level=LOG_LEVEL if LOG_LEVEL in LEVELS else "INFO", readable=DEBUG)  # check E008 says so
METRICS_TOKEN = read(env.str, "METRICS_TOKEN", "")
MAINTENANCE_SECRET = read(env.str, "MAINTENANCE_SECRET", "")
SENTRY_DSN = read(env.str, "SENTRY_DSN", "")
SENTRY_ENVIRONMENT = read(env.str, "SENTRY_ENVIRONMENT", "production")
DJANGO_STRUCTLOG_CELERY_ENABLED = True

# Named places where a test build may raise, sleep or kill the process; empty outside tests (check E007).
FAILPOINTS = read(env.dict, "FAILPOINTS", {})

# --- Admin ------------------------------------------------------------------------------------------------------------

LOGIN_REDIRECT_URL = "admin:index"  # the theme's sign-in form does not say where to go
UNFOLD = {
    "SITE_TITLE": "Counterfoil",
    "SITE_HEADER": "Counterfoil",
    "SITE_SUBHEADER": "Ticket office",
    "SITE_SYMBOL": "confirmation_number",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "monitoring.admin.navigation.favicon"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": True,
    "SHOW_BACK_BUTTON": True,
    "COLORS": {  # the shop's accent (static/counterfoil/tokens.css) at 600
        "primary": {
            "50": "#eef0ff",
            "100": "#e0e3ff",
            "200": "#c6cbff",
            "300": "#a2a9ff",
            "400": "#8f97ff",
            "500": "#6f7af5",
            "600": "#2a37d4",
            "700": "#232eb3",
            "800": "#1c279f",
            "900": "#1b2373",
            "950": "#111646",
        }
    },
    "DASHBOARD_CALLBACK": "monitoring.dashboard.numbers",
    "SIDEBAR": {"show_search": True, "navigation": "monitoring.admin.navigation.groups"},
}
# The theme's Alpine evaluates its attributes and sets styles; everything still comes from our own host.
ADMIN_CONTENT_SECURITY_POLICY = {
    "default-src": [NONE],
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
    "base-uri": [NONE],
    "frame-ancestors": [NONE],
}
