/** Money as integer minor units, shown in the page's language. */

// Where Stripe's minor unit differs from the customary number of digits.
const STRIPE_EXPONENTS = { ISK: 2, UGX: 2, HUF: 2, TWD: 2 };

export function formatMoney(amountMinor, currency) {
  const format = new Intl.NumberFormat(document.documentElement.lang, { style: "currency", currency });
  const digits = STRIPE_EXPONENTS[currency] ?? format.resolvedOptions().maximumFractionDigits;
  return format.format(amountMinor / 10 ** digits);
}
