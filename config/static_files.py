"""Static files under names made from their content, so that browsers may keep them for ever."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedFiles(CompressedManifestStaticFilesStorage):
    """Also rewrites the imports inside our ES modules; without that they would load each other by unhashed names."""

    support_js_module_import_aggregation = True
