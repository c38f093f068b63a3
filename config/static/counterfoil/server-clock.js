/**
 * A clock that shows the server's time.
 *
 * It starts from the time the server wrote into the page and advances by the browser's monotonic counter,
 * so a wrong or changed clock on the buyer's device cannot shorten or lengthen a hold.
 */
export function serverClock(serverTime, takenAt = performance.now()) {
  const start = Date.parse(serverTime) - takenAt;
  return { now: () => start + performance.now() };
}

/** When the first byte of this page arrived, on the monotonic counter. */
export function pageArrivedAt() {
  const [navigation] = performance.getEntriesByType("navigation");
  return navigation?.responseStart || 0;
}
