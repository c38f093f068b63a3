import pytest

from reservations import holds
from tests.factories import ProductFactory


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("H1")
def test_one_hold():
    product = ProductFactory(quotas__capacity=1)
    holds.reserve(product.event.slug, lines=[holds.Wanted(product.pk, None, 1)])
    with pytest.raises(holds.SoldOut):
        holds.reserve(product.event.slug, lines=[holds.Wanted(product.pk, None, 1)])
