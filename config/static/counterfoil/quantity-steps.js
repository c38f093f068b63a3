/** Minus and plus buttons around a number input. The input stays the one that is labelled and sent. */
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
    input.value = Math.min(Number(input.max), Math.max(Number(input.min), wanted));
    input.dispatchEvent(new Event("input", { bubbles: true }));
    refresh();
  };
  less.addEventListener("click", () => step(-1));
  more.addEventListener("click", () => step(1));
  input.addEventListener("input", refresh);
  refresh();
}

function button(sign, label) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "quantity__step";
  element.textContent = sign;
  element.setAttribute("aria-label", label);
  return element;
}
