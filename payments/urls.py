from django.urls import path

from payments import api, views

app_name = "payments"

urlpatterns = [
    path("reservations/<uuid:reservation_id>/checkout/", views.checkout_page, name="checkout"),
    path("orders/<slug:code>/", views.order_page, name="order"),
    path("orders/<slug:code>/cancel/", views.cancel, name="cancel"),
    path("webhooks/stripe/", views.stripe_webhook, name="webhook"),
    path("api/v1/reservations/<uuid:reservation_id>/checkout/", api.CheckoutView.as_view(), name="api-checkout"),
    path("api/v1/orders/<slug:code>/", api.OrderDetail.as_view(), name="api-order"),
    path("api/v1/orders/<slug:code>/status/", api.OrderStatus.as_view(), name="api-status"),
    path("api/v1/orders/<slug:code>/sync/", api.OrderSync.as_view(), name="api-sync"),
    path("api/v1/orders/<slug:code>/cancel/", api.OrderCancel.as_view(), name="api-cancel"),
]
