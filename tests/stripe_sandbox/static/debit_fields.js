/* The one field of a SEPA bank debit: the account's IBAN. */
(function () {
  "use strict";

  const { wrong } = window.Fields;
  const COUNTED = /[a-z0-9]/gi;

  const plain = (text) => text.replace(/[^a-z0-9]/gi, "").toUpperCase().slice(0, 34);
  const group = (text) => plain(text).replace(/(.{4})(?=.)/g, "$1 ");

  /** ISO 13616, a few digits at a time: the whole number is far too long for JavaScript. */
  function checksOut(iban) {
    const moved = iban.slice(4) + iban.slice(0, 4);
    const digits = [...moved].map((character) => parseInt(character, 36)).join("");
    return digits.match(/\d{1,7}/g).reduce((rest, part) => Number(`${rest}${part}`) % 97, 0) === 1;
  }

  function ibanError(text) {
    const iban = plain(text);
    if (iban.length < 15) return wrong("incomplete_iban", "Your IBAN is incomplete.");
    return /^[A-Z]{2}\d{2}/.test(iban) && checksOut(iban) ? null : wrong("invalid_iban", "Your IBAN is invalid.");
  }

  function attach(form, { changed, resized }) {
    const inputs = { iban: form.elements.iban };
    const errors = () => ({ iban: ibanError(inputs.iban.value) });

    function show(name, error) {
      window.Fields.show(inputs[name], error);
      resized();
    }

    function fillIn(iban) {
      inputs.iban.value = group(iban);
      show("iban", null);
      inputs.iban.focus();
      changed();
    }

    inputs.iban.addEventListener("input", () => {
      window.Fields.keepCaret(inputs.iban, group(inputs.iban.value), COUNTED);
      if (!errors().iban) show("iban", null);
      changed();
    });
    inputs.iban.addEventListener("blur", () => inputs.iban.value && show("iban", errors().iban));
    window.Fields.offer(document.getElementById("iban-hints"), JSON.parse(document.body.dataset.ibans), group, fillIn);
    return { inputs, errors, show, value: () => ({ iban: plain(inputs.iban.value) }) };
  }

  window.DebitFields = { attach };
})();
