/**
 * One offer of the event page, kept true while others buy.
 *
 * What the buyer chose is theirs: a number or a time that is no longer to be had stays as it is, and a sentence beside
 * it says so. Only what nobody is using is closed.
 */
import { addSteps } from "./quantity-steps.js";

const BEST_FIRST = ["available", "low", "sold_out", "not_on_sale", "ended"];
const isOpen = (state) => state === "available" || state === "low";

/** The state of several together: the best among them; nothing at all is not on sale. */
export const bestOf = (states) => BEST_FIRST.find((state) => states.includes(state)) ?? "not_on_sale";

/** Writes only what is new, so that a live region does not speak without a reason. */
export function setText(element, text) {
  if (element.textContent.trim() !== text) element.textContent = text;
}

export class Offer {
  constructor(element, words) {
    this.element = element;
    this.words = words;
    this.id = Number(element.dataset.offer);
    this.input = element.querySelector("[data-quantity]");
    this.slots = [...element.querySelectorAll("[type=radio]")];
    this.problem = element.querySelector("[data-problem]");
    this.closedTag = element.querySelector("[data-closed-tag]");
    this.wordsAsLoaded = this.closedTag.textContent; // "not on sale yet" and "not on sale": the server knows which
    this.entries = this.slots.length
      ? this.slots.map((slot) => ({ slot: Number(slot.value), state: slot.dataset.state, available: Number(slot.dataset.available) }))
      : [{ slot: null, state: element.dataset.state, available: Number(element.dataset.available) }];
    this.refreshSteps = addSteps(this.input);
    for (const slot of this.slots) slot.addEventListener("change", () => this.takeAtLeastOne());
  }

  get name() {
    return this.element.querySelector("h3").textContent;
  }

  get quantity() {
    return Number(this.input.value) || 0;
  }

  get amountMinor() {
    return this.quantity * Number(this.element.dataset.priceMinor);
  }

  get state() {
    return bestOf(this.entries.map((entry) => entry.state));
  }

  get stateWords() {
    if (this.state === this.element.dataset.state && !isOpen(this.state)) return this.wordsAsLoaded;
    const { wordSoldOut, wordSaleOver, wordNotOnSale, sayAgain } = this.words;
    return { sold_out: wordSoldOut, ended: wordSaleOver, not_on_sale: wordNotOnSale }[this.state] ?? sayAgain;
  }

  /** What the quantity counts for: the place itself, or the time that is picked; undefined before one is picked. */
  get chosenEntry() {
    if (!this.slots.length) return this.entries[0];
    const picked = this.slots.find((slot) => slot.checked);
    return picked && this.entryOf(picked);
  }

  entryOf(slot) {
    return this.entries.find((entry) => entry.slot === Number(slot.value)) ?? { state: "not_on_sale", available: 0 };
  }

  /** Whether the answer names a time that this page does not show. */
  misses(entries) {
    return entries.some(({ slot }) => slot !== null && !this.slots.some((shown) => Number(shown.value) === slot));
  }

  /** Takes over this product's part of an availability answer; says in words what is worth saying aloud, or nothing. */
  update(entries) {
    const wasOpen = isOpen(this.state);
    this.entries = entries.length ? entries : [{ slot: null, state: "not_on_sale", available: 0 }];
    this.show();
    return wasOpen === isOpen(this.state) || this.problem.textContent ? "" : `${this.name}: ${this.stateWords}.`;
  }

  show() {
    const { state, words } = this;
    const left = this.entries.reduce((sum, entry) => sum + entry.available, 0);
    const low = this.element.querySelector("[data-low]");
    low.hidden = state !== "low";
    setText(low, left ? words.wordLow.replace("{n}", left) : words.wordFew);
    for (const slot of this.slots) this.showSlot(slot);
    this.limit();
    this.openOrClose();
    this.showProblem();
  }

  showSlot(slot) {
    const { state, available } = this.entryOf(slot);
    const { wordAvailable, wordLow, wordSoldOut, wordEnded, wordNotOnSale } = this.words;
    const words = { available: wordAvailable, low: wordLow.replace("{n}", available), sold_out: wordSoldOut, ended: wordEnded };
    const label = slot.closest("label").querySelector("[data-slot-state]");
    setText(label, words[state] ?? wordNotOnSale);
    label.classList.toggle("slot__state--low", state === "low" || (slot.checked && !isOpen(state)));
    slot.disabled = !isOpen(state) && !slot.checked && slot !== document.activeElement;
    slot.required = this.quantity > 0;
  }

  /** No more than an order may have, and no more than there is. */
  limit() {
    const most = Math.min(Number(this.input.dataset.maxPerOrder), this.chosenEntry?.available ?? Infinity);
    this.input.max = most;
    this.refreshSteps();
  }

  openOrClose() {
    const isUsed = this.quantity > 0 || [...this.element.querySelectorAll("[data-while-open]")].some((part) => part.contains(document.activeElement));
    const isShownOpen = isOpen(this.state) || isUsed;
    this.element.classList.toggle("offer--closed", !isShownOpen);
    this.element.classList.toggle("offer--chosen", this.quantity > 0);
    this.input.disabled = !isShownOpen;
    for (const part of this.element.querySelectorAll("[data-while-open]")) {
      part.hidden = !isShownOpen;
      if (part.matches("fieldset")) part.disabled = !isShownOpen;
    }
    for (const part of this.element.querySelectorAll("[data-while-closed]")) part.hidden = isOpen(this.state);
    if (!isOpen(this.state)) setText(this.closedTag, this.stateWords);
  }

  showProblem() {
    setText(this.problem, this.problemWords());
  }

  problemWords() {
    const entry = this.chosenEntry;
    if (!this.quantity || !entry || (isOpen(entry.state) && this.quantity <= entry.available)) return "";
    const { sayAsked, sayNone, sayClosed } = this.words;
    if (!isOpen(entry.state) && entry.state !== "sold_out") return sayClosed;
    const words = entry.available ? sayAsked.replace("{n}", this.quantity).replace("{left}", entry.available) : sayNone;
    const picked = this.slots.find((slot) => slot.checked);
    return picked ? `${picked.closest("label").querySelector(".slot__when").textContent}: ${words}` : words;
  }

  takeAtLeastOne() {
    if (this.quantity > 0) return;
    this.input.value = 1;
    this.input.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
