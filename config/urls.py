"""Every address, by the app that answers it."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import pages

urlpatterns = [
    path("", include("reservations.urls")),
    path("", include("payments.urls")),
    path("", include("ticketing.urls")),
    path("", include("monitoring.urls")),
    # Django's redirect to any object's page asks only whether somebody is staff; an order's page carries its secret.
    path("admin/r/<path:_object>", pages.not_found),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
]

handler400 = "config.pages.bad_request"
handler403 = "config.pages.forbidden"
handler404 = "config.pages.not_found"
handler500 = "config.pages.server_error"
