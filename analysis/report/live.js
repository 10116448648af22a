// Loads a live page again when there is a newer one, and keeps what its reader has set: also on the last page, which is live no more.
const QUIET = 2000; // milliseconds without a touch, after which a reader is not disturbed
const all = (selector) => [...document.querySelectorAll(selector)];
const heads = all("#trials thead th");

// What a part of the page is called there and on the next one: without the number of rows.
const nameOf = (part) => {
  const label = part.ariaLabel || part.dataset.series || part.value || part.textContent;
  return [part.tagName, part.closest("section")?.getAttribute("aria-labelledby"), part.closest(".tab")?.id, label.replace(/ \(\d+\)$/, "")].join(" ");
};
const named = (selector, name) => all(selector).find((part) => nameOf(part) === name);
const PLACES = "h1, h2, h3, summary, .panel", OPEN = "details[open] > summary", PRESSED = ".keys button[aria-pressed=true]";
const FOCUSED = "a, button, input, summary, [tabindex]";

function readerState() {
  const place = all(PLACES).findLast((part) => part.checkVisibility() && part.getBoundingClientRect().top < innerHeight / 3);
  const sorted = heads.find((head) => head.ariaSort);
  return {
    pinned: [...pinned], brushes, filter: filter.value, factor: choices.find((choice) => choice.checked)?.value,
    sort: sorted && [nameOf(sorted), sorted.ariaSort],
    open: all(OPEN).map(nameOf), pressed: all(PRESSED).map(nameOf),
    scrolled: all(".scroll").map((part) => [nameOf(part), part.scrollLeft, part.scrollTop]),
    place: scrollY && place && nameOf(place), top: place?.getBoundingClientRect().top, y: scrollY,
    focus: document.activeElement.matches(FOCUSED) && nameOf(document.activeElement),
    caret: [filter.selectionStart, filter.selectionEnd],
  };
}

function restore(state) {
  for (const name of state.open) named("summary", name)?.parentElement.setAttribute("open", "");
  for (const choice of choices) if (choice.value === state.factor) choice.checked = true;
  choose();
  for (const name of state.pressed) named(".keys button", name)?.click();
  const head = state.sort && heads.find((each) => nameOf(each) === state.sort[0]);
  for (let i = 0; head && i < 2 && head.ariaSort !== state.sort[1]; i++) head.querySelector("button").click();
  filter.value = state.filter;
  filter.setSelectionRange(...state.caret);
  axes.forEach((axis, i) => { brushes[i] = state.brushes[i] ?? null; });
  update();
  for (const trial of state.pinned) pin(trial);
  if (state.focus) named(FOCUSED, state.focus)?.focus({ preventScroll: true });
  for (const [name, left, top] of state.scrolled) named(".scroll", name)?.scrollTo(left, top);
  // What was looked at stays where it was, though there may be more above it.
  const stay = () => {
    const place = state.place && named(PLACES, state.place);
    scrollTo(0, place ? scrollY + place.getBoundingClientRect().top - state.top : state.y);
  };
  stay();
  // Once the page is loaded the browser would restore what it has of the last one, if it still might.
  addEventListener("load", () => { stay(); setTimeout(() => { history.scrollRestoration = "auto"; }); });
}

// A page that was loaded again is hidden until now, or its top would flash up.
document.documentElement.style.visibility = "";
if (history.state?.pinned) restore(history.state);
history.replaceState(null, "");

const live = document.getElementById("live");
if (live) {
  let touched = 0, found = false, due = false;
  for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "scroll"])
    addEventListener(kind, () => { touched = Date.now(); }, { capture: true, passive: true });
  const age = (seconds) => {
    if (seconds < 60) return seconds < 10 ? "less than 10 s" : `${10 * Math.floor(seconds / 10)} s`;
    return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
  };
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  const tick = () => {
    say(live.dataset.running.replace("{age}", age((Date.now() - live.dataset.made) / 1000)));
    if (!due) ask();
    else if (Date.now() - touched > QUIET) {
      clearInterval(timer);
      history.scrollRestoration = "manual";
      history.replaceState(readerState(), "");
      location.reload();
    }
  };
  const timer = setInterval(tick, 2000);
  // A script is what a page from file:// may ask for. It calls `newest`; when the study is over it is gone.
  window.newest = (made) => { found = true; due = made > live.dataset.made; };
  const ask = () => {
    const script = document.createElement("script");
    script.src = `newest.js?${Date.now()}`;
    script.onload = () => { script.remove(); if (due) tick(); };
    script.onerror = () => {
      script.remove();
      if (found) { due = true; tick(); }
      else { clearInterval(timer); say(live.dataset.copied); } // a copy elsewhere, without its script
    };
    document.head.append(script);
  };
  tick();
}
