/* What all the forms share: an error beside its field, and the first one in focus. Pure browser, no state. */
(function () {
  "use strict";

  const wrong = (code, message) => ({ type: "validation_error", code, message });

  function show(input, error) {
    document.getElementById(`${input.id}-error`).textContent = error ? error.message : "";
    if (error) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  /** Says what is wrong with each field and moves to the first; that complaint, or undefined. */
  function complain(groups) {
    const fields = groups.flatMap((group) => {
      const found = group.errors();
      return Object.entries(group.inputs).map(([name, input]) => ({ input, error: found[name] }));
    });
    for (const { input, error } of fields) show(input, error);
    const first = fields.find(({ error }) => error);
    if (first) first.input.focus();
    return first && first.error;
  }

  function email(text) {
    if (!text.trim()) return wrong("incomplete_email", "Your email address is incomplete.");
    return /^[^@\s]+@[^@\s]+\.[^@\s.]+$/.test(text.trim()) ? null : wrong("invalid_email", "Your email address is invalid.");
  }

  const filled = (text, label) => (text.trim() ? null : wrong("incomplete", `Your ${label} is incomplete.`));

  /** Buttons that fill in what Stripe's testing page lists. */
  function offer(list, hints, write, use) {
    for (const hint of hints) {
      const button = document.createElement("button");
      const number = document.createElement("span");
      const outcome = document.createElement("span");
      const item = document.createElement("li");
      button.type = "button";
      number.className = "hint-number";
      number.textContent = write(hint.number);
      outcome.className = "hint-outcome";
      outcome.textContent = hint.outcome;
      button.append(outcome, number);
      button.addEventListener("click", () => {
        use(hint.number);
        list.closest("details").open = false;
      });
      item.append(button);
      list.append(item);
    }
  }

  /** Typing in the middle of grouped digits must not throw the caret to the end. */
  function keepCaret(input, value, counted) {
    const before = input.value.slice(0, input.selectionStart).match(counted)?.length || 0;
    const atEnd = input.selectionStart === input.value.length;
    input.value = value;
    if (document.activeElement !== input || atEnd) return;
    let caret = 0;
    for (let seen = 0; caret < value.length && seen < before; caret++) if (value[caret].match(counted)) seen++;
    input.setSelectionRange(caret, caret);
  }

  window.Fields = { wrong, show, complain, email, filled, offer, keepCaret };
})();
