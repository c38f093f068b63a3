"""“Stop selling”: closes the sale of a product, or of everything an event sells, at once. The capacity stays as it is,
and so does what is already held or ordered.
"""

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin

from ticketing.admin.actions import Refused
from ticketing.models import Event, Product


class MayStopSelling(ModelAdmin):
    """For actions with the permission `sell`: to change products, from whatever page it is done."""

    def has_sell_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return may_stop_selling(request)


def may_stop_selling(request: HttpRequest) -> bool:
    return request.user.has_perm("ticketing.change_product")


def stop(product: Product) -> str:
    Product.objects.filter(pk=product.pk).update(is_stopped=True)
    return _("selling stopped")


def resume(product: Product) -> str:
    Product.objects.filter(pk=product.pk).update(is_stopped=False)
    return _("selling resumed")


def stop_everything(event: Event) -> str:
    stopped = Product.objects.filter(event=event, is_stopped=False).update(is_stopped=True)
    if stopped == 0:
        raise Refused(_("Nothing of it was being sold."))
    return ngettext("selling of %(n)s product stopped", "selling of %(n)s products stopped", stopped) % {"n": stopped}


def resume_everything(event: Event) -> str:
    resumed = Product.objects.filter(event=event, is_stopped=True).update(is_stopped=False)
    if resumed == 0:
        raise Refused(_("Nothing of it was stopped."))
    return ngettext("selling of %(n)s product resumed", "selling of %(n)s products resumed", resumed) % {"n": resumed}
