"""The yardstick of every HTTP ratio: one Django view that does nothing."""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

ANSWER = b'{"id": "00000000-0000-0000-0000-000000000000", "status": "active"}'


@csrf_exempt  # as the product's JSON calls are
def nothing(request: HttpRequest) -> HttpResponse:
    """Says its length itself: without middlewares nobody else does, and the answer would be sent in chunks."""
    return HttpResponse(ANSWER, content_type="application/json", headers={"Content-Length": str(len(ANSWER))})


urlpatterns = [path("empty/", nothing)]
