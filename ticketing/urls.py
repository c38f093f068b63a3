from django.urls import path

from ticketing import views

app_name = "ticketing"

urlpatterns = [
    path("tickets/<str:secret>/", views.ticket, name="ticket"),
]
