/** Money as integer minor units, shown in the page's language. */

// What Stripe's integers mean (docs.stripe.com/currencies), which for a dozen currencies is not the customary number of
// digits. config/money.py has the same.
const ZERO_DECIMAL = new Set("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(" "));
const THREE_DECIMAL = new Set("BHD JOD KWD OMR TND".split(" "));

export function formatMoney(amountMinor, currency) {
  const digits = ZERO_DECIMAL.has(currency) ? 0 : THREE_DECIMAL.has(currency) ? 3 : 2;
  const language = document.documentElement.lang;
  const customary = new Intl.NumberFormat(language, { style: "currency", currency }).resolvedOptions();
  const maximumFractionDigits = Math.max(customary.maximumFractionDigits, digits);
  const format = new Intl.NumberFormat(language, { style: "currency", currency, maximumFractionDigits });
  return format.format(amountMinor / 10 ** digits);
}
