"""The product's settings with the empty view as its only page: what its middlewares and its log cost."""

from config.settings import *  # noqa: F403 - a settings module of the usual kind

ROOT_URLCONF = "deploy.bench.empty_urls"
FAST_PATHS = {}
