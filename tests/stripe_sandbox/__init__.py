"""Offline Stripe: a small, stateful stand-in for the demo and the tests. Never part of the product.

It is a separate process. The product reaches it only through STRIPE_API_BASE and STRIPE_JS_URL, exactly
as it would reach Stripe, so the real SDK and the real page code are what gets tested.
"""

API_VERSION = "2026-05-27.dahlia"
