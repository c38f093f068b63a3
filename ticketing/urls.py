from django.urls import path

from ticketing import views

app_name = "ticketing"

urlpatterns = [
    path("tickets/<slug:secret>/", views.ticket, name="ticket"),
]
