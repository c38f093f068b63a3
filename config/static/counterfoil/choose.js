/** Event page: steppers, a running total, and slots that belong to a quantity. */
import { formatMoney } from "./money.js";
import { addSteps } from "./quantity-steps.js";

const form = document.querySelector("[data-choose]");
if (form) {
  const offers = [...form.querySelectorAll("[data-offer]")].filter((offer) => offer.querySelector("[data-quantity]"));
  offers.forEach(tieSlots);
  offers.forEach((offer) => addSteps(offer.querySelector("[data-quantity]")));
  form.addEventListener("input", () => showTotal(form, offers));
  addEventListener("pageshow", () => showTotal(form, offers)); // the browser may have put values back
  showTotal(form, offers);
}

function quantityIn(offer) {
  return Number(offer.querySelector("[data-quantity]").value) || 0;
}

function showTotal(choice, chosenFrom) {
  let count = 0;
  let amountMinor = 0;
  for (const offer of chosenFrom) {
    const quantity = quantityIn(offer);
    count += quantity;
    amountMinor += quantity * Number(offer.dataset.priceMinor);
    offer.classList.toggle("offer--chosen", quantity > 0);
    for (const slot of offer.querySelectorAll("[type=radio]")) slot.required = quantity > 0;
  }
  const sum = choice.querySelector("[data-sum]");
  const { none, free, chosen } = sum.dataset;
  const price = amountMinor ? formatMoney(amountMinor, chosenFrom[0].dataset.currency) : free;
  const words = count ? chosen.replace("{n}", count).replace("{price}", price) : none;
  if (sum.textContent !== words) sum.textContent = words;
}

/** A slot that is picked asks for at least one ticket, and for no more than it has. */
function tieSlots(offer) {
  const input = offer.querySelector("[data-quantity]");
  const perOrder = Number(input.dataset.maxPerOrder);
  for (const slot of offer.querySelectorAll("[type=radio]")) {
    slot.addEventListener("change", () => {
      input.max = Math.min(perOrder, Number(slot.dataset.available));
      input.value = Math.min(Number(input.max), Math.max(1, Number(input.value)));
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
}
