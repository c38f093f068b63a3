from django.urls import path

from monitoring import views

app_name = "monitoring"

urlpatterns = [
    path("livez/", views.livez, name="livez"),
    path("readyz/", views.readyz, name="readyz"),
    path("metrics/", views.metrics_page, name="metrics"),
]
