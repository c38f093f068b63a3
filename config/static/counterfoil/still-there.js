/** After a hold's end: whether what was held can still be had, kept true while the page is looked at. */
import { setText } from "./offer.js";
import { pollWhileShown } from "./poll.js";

export function tellWhetherStillThere() {
  const place = document.querySelector("[data-still-there]");
  if (!place) return;
  const lines = [...document.querySelectorAll("[data-line]")].map(({ dataset }) => ({
    product: Number(dataset.product),
    slot: dataset.slot ? Number(dataset.slot) : null,
    quantity: Number(dataset.quantity),
  }));
  const begin = () => pollWhileShown(place.dataset.availabilityUrl, { onAnswer: (answer) => show(place, lines, answer) })();
  if (place.closest("[data-when-ended]").hidden) document.addEventListener("hold:ended", begin, { once: true });
  else begin();
}

function show(place, lines, { products }) {
  const left = lines.map(({ product, slot, quantity }) => {
    const entry = products.find((one) => one.id === product && one.slot === slot);
    const available = ["available", "low"].includes(entry?.state) ? entry.available : 0;
    return Math.min(1, available / quantity);
  });
  const { all, some, none } = place.dataset;
  setText(place, left.every((share) => share === 1) ? all : left.some((share) => share > 0) ? some : none);
}
