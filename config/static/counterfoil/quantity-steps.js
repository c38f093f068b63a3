/**
 * Minus and plus buttons around a number input. The input stays the one that is labelled and sent.
 *
 * Returns what brings the buttons up to date when the input's limits have changed.
 */
export function addSteps(input) {
  const { lessLabel, moreLabel } = input.dataset;
  const less = button("−", lessLabel);
  const more = button("+", moreLabel);
  input.before(less);
  input.after(more);
  input.parentElement.classList.add("quantity--stepped");

  const refresh = () => {
    less.disabled = Number(input.value) <= Number(input.min);
    more.disabled = Number(input.value) >= Number(input.max);
  };
  const step = (by) => {
    const wanted = (Number(input.value) || 0) + by;
    // One less of too many is still too many: the limit holds back the way up only.
    input.value = by < 0 ? Math.max(Number(input.min), wanted) : Math.min(Number(input.max), wanted);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    refresh();
  };
  less.addEventListener("click", () => step(-1));
  more.addEventListener("click", () => step(1));
  input.addEventListener("input", refresh);
  refresh();
  return refresh;
}

function button(sign, label) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "quantity__step";
  element.textContent = sign;
  element.setAttribute("aria-label", label);
  return element;
}
