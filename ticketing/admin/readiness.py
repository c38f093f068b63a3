"""What still keeps an event from being sold, in words, for whoever sets it up."""

from django.db.models import Count
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ticketing.models import Event


def missing(event: Event) -> list[str]:
    """Nothing, when buyers can buy everything of it."""
    texts = []
    if event.status != Event.Status.PUBLISHED:
        texts.append(_("It is not published: buyers do not see it."))
    if not event.quotas.exists():
        texts.append(_("It has no quota: add one under “Quotas”, with the number that can be sold."))
    products = list(event.products.annotate(quota_count=Count("quotas")))
    if not products:
        texts.append(_("It has no product: add one under “Products”, with its price."))
    for product in products:
        if product.quota_count == 0:
            texts.append(_("“%(product)s” draws on no quota, so it cannot be bought.") % {"product": product.name})
        if product.is_stopped:
            texts.append(_("Selling of “%(product)s” is stopped.") % {"product": product.name})
    return texts


def shown(event: Event) -> SafeString | str:
    texts = missing(event)
    if not texts:
        return _("Yes.")
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ([text] for text in texts)))
