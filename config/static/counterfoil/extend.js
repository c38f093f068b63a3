/** The extend button without leaving the page, so that a card being typed in is not lost. */
export function extendInPlace(countdown, url) {
  const form = document.querySelector("[data-extend]");
  if (!form || !url) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
      if (!answer.ok) throw new Error(`extend answered ${answer.status}`);
      countdown.update(await answer.json());
    } catch {
      form.submit(); // the page's own form says why not
    }
  });
}
