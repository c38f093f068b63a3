/* What a card number, an expiry date and a security code look like while they are typed. Pure functions. */
(function () {
  "use strict";

  const BRANDS = [
    { name: "visa", label: "Visa", starts: /^4/, lengths: [16], groups: [4, 4, 4, 4], cvc: 3 },
    { name: "mastercard", label: "Mastercard", starts: /^(5[1-5]|2[2-7])/, lengths: [16], groups: [4, 4, 4, 4], cvc: 3 },
    { name: "amex", label: "American Express", starts: /^3[47]/, lengths: [15], groups: [4, 6, 5], cvc: 4 },
    { name: "discover", label: "Discover", starts: /^6(0|4|5)/, lengths: [16], groups: [4, 4, 4, 4], cvc: 3 },
    { name: "diners", label: "Diners Club", starts: /^36/, lengths: [14], groups: [4, 6, 4], cvc: 3 },
    { name: "diners", label: "Diners Club", starts: /^3(0|8|9)/, lengths: [16], groups: [4, 4, 4, 4], cvc: 3 },
    { name: "jcb", label: "JCB", starts: /^35/, lengths: [16], groups: [4, 4, 4, 4], cvc: 3 },
    { name: "unionpay", label: "UnionPay", starts: /^62/, lengths: [16, 17, 18, 19], groups: [4, 4, 4, 4, 3], cvc: 3 },
  ];
  const UNKNOWN = { name: "unknown", label: "", lengths: [16], groups: [4, 4, 4, 4], cvc: 3 };

  const digits = (text) => text.replace(/\D/g, "");
  const brand = (number) => BRANDS.find((known) => known.starts.test(number)) || UNKNOWN;

  function group(text) {
    const kind = brand(digits(text));
    let rest = digits(text).slice(0, Math.max(...kind.lengths));
    const parts = [];
    for (const size of kind.groups) {
      if (!rest) break;
      parts.push(rest.slice(0, size));
      rest = rest.slice(size);
    }
    return parts.join(" ");
  }

  function luhn(number) {
    let total = 0;
    [...number].reverse().forEach((digit, position) => {
      const value = Number(digit) * (position % 2 ? 2 : 1);
      total += value > 9 ? value - 9 : value;
    });
    return total % 10 === 0;
  }

  function expiry(text, isDeleting) {
    let typed = digits(text);
    if (/^[2-9]/.test(typed) || /^1\s*\//.test(text)) typed = `0${typed}`;
    // A browser may fill in 12/2030.
    if (typed.length === 6 && typed.slice(2, 4) === "20") typed = typed.slice(0, 2) + typed.slice(4);
    typed = typed.slice(0, 4);
    if (typed.length > 2) return `${typed.slice(0, 2)} / ${typed.slice(2)}`;
    return typed.length === 2 && !isDeleting ? `${typed} / ` : typed;
  }

  const wrong = (code, message) => ({ type: "validation_error", code, message });

  function numberError(text) {
    const number = digits(text);
    if (!brand(number).lengths.includes(number.length)) {
      return wrong("incomplete_number", "Your card number is incomplete.");
    }
    return luhn(number) ? null : wrong("invalid_number", "Your card number is invalid.");
  }

  function expiryError(text, now) {
    const typed = digits(text);
    if (typed.length < 4) return wrong("incomplete_expiry", "Your card's expiration date is incomplete.");
    const month = Number(typed.slice(0, 2));
    const year = 2000 + Number(typed.slice(2));
    if (month < 1 || month > 12) return wrong("invalid_expiry_month", "Your card's expiration date is invalid.");
    if (year < now.getFullYear() || year > now.getFullYear() + 50) {
      return wrong("invalid_expiry_year_past", "Your card's expiration year is in the past.");
    }
    const isPast = year === now.getFullYear() && month < now.getMonth() + 1;
    return isPast ? wrong("invalid_expiry_month_past", "Your card's expiration date is in the past.") : null;
  }

  function cvcError(text, number) {
    const isShort = digits(text).length < brand(digits(number)).cvc;
    return isShort ? wrong("incomplete_cvc", "Your card's security code is incomplete.") : null;
  }

  window.CardFormat = { digits, brand, group, expiry, numberError, expiryError, cvcError };
})();
