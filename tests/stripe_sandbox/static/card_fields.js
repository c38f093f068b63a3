/* The three fields of a card, wherever they stand: typing, brand, complaints, test cards. */
(function () {
  "use strict";

  const format = window.CardFormat;
  const now = () => new Date();

  /** `changed` is called after every change of what was typed, `resized` when a message came or went. */
  function attach(form, { changed, resized }) {
    const inputs = { number: form.elements.number, expiry: form.elements.expiry, cvc: form.elements.cvc };

    const errors = () => ({
      number: format.numberError(inputs.number.value),
      expiry: format.expiryError(inputs.expiry.value, now()),
      cvc: format.cvcError(inputs.cvc.value, inputs.number.value),
    });

    function show(name, error) {
      window.Fields.show(inputs[name], error);
      resized();
    }

    function showBrand() {
      const brand = format.brand(format.digits(inputs.number.value));
      inputs.cvc.maxLength = brand.cvc;
      const label = document.getElementById("brand-name");
      if (label.textContent !== brand.label) label.textContent = brand.label;
      for (const image of document.querySelectorAll("#brands img")) {
        image.hidden = brand.name !== "unknown" && image.dataset.brand !== brand.name;
      }
    }

    function rewrite(input, isDeleting) {
      if (input === inputs.number) window.Fields.keepCaret(input, format.group(input.value), /\d/g);
      if (input === inputs.expiry) window.Fields.keepCaret(input, format.expiry(input.value, isDeleting), /\d/g);
      if (input === inputs.cvc) window.Fields.keepCaret(input, format.digits(input.value), /\d/g);
    }

    function typed(event) {
      const input = event.target;
      const isDeleting = (event.inputType || "").startsWith("delete");
      rewrite(input, isDeleting);
      showBrand();
      const error = errors()[input.name];
      if (!error || isDeleting) show(input.name, null);
      if (!error && !isDeleting && document.activeElement === input && input.selectionStart === input.value.length) {
        if (input === inputs.number) inputs.expiry.focus();
        if (input === inputs.expiry) inputs.cvc.focus();
      }
      if (error && error.code.startsWith("invalid")) show(input.name, error);
      changed();
    }

    function fillIn(number) {
      inputs.number.value = format.group(number);
      inputs.expiry.value = `12 / ${String(now().getFullYear() + 3).slice(2)}`;
      inputs.cvc.value = "123";
      for (const name of Object.keys(inputs)) show(name, null);
      showBrand();
      inputs.cvc.focus();
      changed();
    }

    function value() {
      const [month, year] = inputs.expiry.value.split("/").map((part) => part.trim());
      return { number: format.digits(inputs.number.value), exp_month: month, exp_year: year, cvc: inputs.cvc.value };
    }

    for (const input of Object.values(inputs)) {
      input.addEventListener("input", typed);
      input.addEventListener("blur", () => input.value && show(input.name, errors()[input.name]));
    }
    window.Fields.offer(document.getElementById("hints"), JSON.parse(document.body.dataset.hints), format.group, fillIn);
    showBrand();
    return { inputs, errors, value, show, showBrand };
  }

  window.CardFields = { attach };
})();
