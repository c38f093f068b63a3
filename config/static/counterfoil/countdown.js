/**
 * The hold's countdown: shows the time left, turns amber, speaks up politely, and closes the forms at the end.
 *
 * Other modules hear of the end by the document's "hold:ended" event; one that is in the middle of something
 * (a card being charged) sets `countdown.paused` and calls `end()` itself when it knows more.
 */
import { pageArrivedAt, serverClock } from "./server-clock.js";
import { minutesAndSeconds, secondsUntil } from "./time-left.js";

const AMBER_BELOW_SECONDS = 120;
const SAY_AT_MINUTES = [1, 2, 5];

class Countdown {
  constructor(element) {
    this.element = element;
    this.left = element.querySelector("[data-countdown-left]");
    this.bar = element.querySelector("[data-countdown-bar]");
    this.voice = element.querySelector("[data-countdown-voice]");
    this.expiresAt = Date.parse(element.dataset.expiresAt);
    this.clock = serverClock(element.dataset.serverTime, pageArrivedAt());
    this.secondsBefore = Infinity;
    this.hasEnded = false;
    this.paused = false;
    this.left.hidden = this.bar.hidden = false;
    this.tick();
    document.addEventListener("visibilitychange", () => document.hidden || this.askServer());
  }

  get secondsLeft() {
    return secondsUntil(this.expiresAt, this.clock);
  }

  tick() {
    clearTimeout(this.timer);
    if (this.hasEnded) return;
    const seconds = this.secondsLeft;
    this.show(seconds);
    this.speak(seconds);
    this.secondsBefore = seconds;
    if (seconds === 0 && !this.paused) return this.end();
    const untilNextSecond = (((this.expiresAt - this.clock.now()) % 1000) + 1000) % 1000;
    this.timer = setTimeout(() => this.tick(), untilNextSecond + 10); // a moment past it, never just before
  }

  show(seconds) {
    this.left.textContent = minutesAndSeconds(seconds);
    this.element.classList.toggle("countdown--soon", seconds < AMBER_BELOW_SECONDS);
    const share = Math.min(1, seconds / (60 * Number(this.element.dataset.windowMinutes)));
    this.bar.style.setProperty("--share-left", share);
  }

  speak(seconds) {
    const minutes = SAY_AT_MINUTES.find((m) => seconds <= m * 60 && this.secondsBefore > m * 60);
    if (minutes === undefined || this.secondsBefore === Infinity || seconds === 0) return;
    const { sayOne, sayMany } = this.element.dataset;
    this.voice.textContent = minutes === 1 ? sayOne : sayMany.replace("{n}", minutes);
  }

  /** Takes over a reservation as the server just described it. */
  update({ expires_at: expiresAt, server_time: serverTime, can_extend: canExtend }) {
    this.expiresAt = Date.parse(expiresAt);
    this.clock = serverClock(serverTime);
    this.secondsBefore = Infinity;
    const extend = this.element.querySelector("[data-extend]");
    if (extend && canExtend !== undefined) extend.hidden = !canExtend;
    const time = new Intl.DateTimeFormat(document.documentElement.lang, {
      timeStyle: "medium",
      hourCycle: "h23",
      timeZone: this.element.dataset.timeZone || undefined,
    }).format(this.expiresAt);
    for (const place of document.querySelectorAll("[data-held-until]")) place.textContent = time;
    this.tick();
  }

  /** The buyer comes back to this tab: another tab, or a sleeping laptop, may have changed what is true. */
  async askServer() {
    if (this.hasEnded || this.paused) return;
    try {
      const answer = await fetch(this.element.dataset.reservationUrl, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const reservation = await answer.json();
      if (reservation.status === "confirmed") location.reload();
      else if (["released", "expired"].includes(reservation.status)) this.end();
      else this.update(reservation);
    } catch {
      // Offline: the countdown on the page is still right.
    }
  }

  /** `isShown` false: the page says in other words why. */
  end({ isShown = true } = {}) {
    if (this.hasEnded) return;
    this.hasEnded = true;
    clearTimeout(this.timer);
    for (const part of document.querySelectorAll("[data-while-held]")) {
      if (part.matches("fieldset")) part.disabled = true;
      else part.hidden = true;
    }
    for (const part of document.querySelectorAll("[data-when-ended]")) part.hidden = !isShown;
    for (const part of document.querySelectorAll("[data-after-hold]")) part.hidden = false;
    const voice = document.querySelector("[data-ended-voice]");
    if (voice && isShown) voice.textContent = this.element.dataset.sayEnded;
    this.element.hidden = true;
    document.dispatchEvent(new CustomEvent("hold:ended"));
  }
}

/** The page's countdown, running; null on a page without one. */
export function startCountdown() {
  const element = document.querySelector("[data-countdown]");
  return element ? new Countdown(element) : null;
}

// A page brought back from the browser's memory shows old times: fetch it anew.
addEventListener("pageshow", (event) => event.persisted && location.reload());
