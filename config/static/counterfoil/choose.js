/** Event page: steppers, a running total, slots that belong to a quantity, and what is left as it changes. */
import { formatMoney } from "./money.js";
import { bestOf, Offer, setText } from "./offer.js";
import { pollWhileShown } from "./poll.js";
import { sendOnce } from "./send-once.js";

const form = document.querySelector("[data-choose]");
const offers = [...form.querySelectorAll("[data-offer]")].map((element) => new Offer(element, form.dataset));
const code = form.querySelector("[name=code]");
const note = form.querySelector("[data-note-with-code]");
const noteWithoutCode = note.textContent;
const voice = document.querySelector("[data-choice-voice]");

sendOnce(form);
form.addEventListener("input", showChoice);
addEventListener("pageshow", showChoice); // the browser may have put values back
showChoice();
pollWhileShown(form.dataset.availabilityUrl, { onAnswer: takeOver, onGone: sayThatTheChoiceChanged });

function showChoice() {
  for (const offer of offers) offer.show();
  showTotal();
  showWhetherAnythingSells();
}

function takeOver({ products }) {
  const isNew = (entry) => !offers.some((offer) => offer.id === entry.id);
  const news = offers.map((offer) => {
    const entries = products.filter((entry) => entry.id === offer.id);
    if (offer.misses(entries)) sayThatTheChoiceChanged();
    return offer.update(entries);
  });
  if (products.some(isNew)) sayThatTheChoiceChanged();
  if (news.some(Boolean)) setText(voice, news.filter(Boolean).join(" "));
  showWhetherAnythingSells();
}

function showTotal() {
  const count = offers.reduce((sum, offer) => sum + offer.quantity, 0);
  const amountMinor = offers.reduce((sum, offer) => sum + offer.amountMinor, 0);
  const sum = form.querySelector("[data-sum]");
  const { none, free, chosen } = sum.dataset;
  const price = amountMinor ? formatMoney(amountMinor, offers[0].element.dataset.currency) : free;
  setText(sum, count ? chosen.replace("{n}", count).replace("{price}", price) : none);
  setText(note, amountMinor && hasCode() ? note.dataset.noteWithCode : noteWithoutCode);
}

/** A code to look forward to: not one that was just refused. */
function hasCode() {
  return Boolean(code?.value.trim()) && !(code.matches("[aria-invalid]") && code.value === code.defaultValue);
}

function showWhetherAnythingSells() {
  const state = bestOf(offers.map((offer) => offer.state));
  const isSelling = ["available", "low"].includes(state) || offers.some((offer) => offer.quantity > 0);
  for (const part of form.querySelectorAll("[data-while-selling]")) part.hidden = !isSelling;
  form.querySelector("button:not([type])").disabled = !isSelling;
  for (const message of document.querySelectorAll("[data-nothing-while]")) {
    message.hidden = isSelling || message.dataset.nothingWhile !== state;
  }
}

/** Something is sold here that this page does not show, or the event is gone: only the server draws that. */
function sayThatTheChoiceChanged() {
  const place = document.querySelector("[data-choice-changed]");
  if (!place.childElementCount) place.append(document.querySelector("[data-choice-changed-words]").content.cloneNode(true));
}
