from django.urls import path

from reservations import api, views

app_name = "reservations"

urlpatterns = [
    path("", views.event_list, name="event-list"),
    path("events/<slug:slug>/", views.event_detail, name="event"),
    path("events/<slug:slug>/hold/", views.hold, name="hold"),
    path("reservations/", views.my_holds, name="my-holds"),
    path("reservations/mine/", views.mine, name="mine"),
    path("reservations/<uuid:reservation_id>/", views.basket, name="basket"),
    path("reservations/<uuid:reservation_id>/extend/", views.extend, name="extend"),
    path("reservations/<uuid:reservation_id>/release/", views.release, name="release"),
    path("maintenance/release-expired-holds/", views.release_expired_holds, name="release-expired-holds"),
    path("api/v1/events/", api.EventList.as_view(), name="api-events"),
    path("api/v1/events/<slug:slug>/", api.EventDetail.as_view(), name="api-event"),
    path("api/v1/events/<slug:slug>/availability/", api.EventAvailability.as_view(), name="api-availability"),
    path("api/v1/reservations/", api.Reservations.as_view(), name="api-reservations"),
    path("api/v1/reservations/<uuid:reservation_id>/", api.ReservationDetail.as_view(), name="api-reservation"),
    path("api/v1/reservations/<uuid:reservation_id>/extend/", api.ReservationExtension.as_view(), name="api-extend"),
]
