// The figures: values under the pointer, legend entries that dim the others, views by factor, and marked trials.
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip"), panels = [...document.querySelectorAll(".panel")];
const nodes = new Map(); // of each trial, what is drawn of it in any figure
const pinned = new Set();
let describe = (trial) => `trial ${trial}`;
let showPinned = () => {};

// The points of a group that a value can be read from: [x, y, element].
const numbers = (text) => text.match(/-?[\d.]+/g).map(Number);
const pointsOf = (group, element) => {
  if (element.tagName === "use") return [[Number(element.getAttribute("x")), Number(element.getAttribute("y")), element]];
  const values = numbers(element.getAttribute("d") ?? "0 0"), points = [];
  for (let i = 0; i + 1 < values.length; i += 2) points.push([values[i], values[i + 1], element]);
  if (group.dataset.kind !== "marks") return points;
  const middle = (axis) => (Math.min(...points.map((p) => p[axis])) + Math.max(...points.map((p) => p[axis]))) / 2;
  return [[middle(0), middle(1), element]];
};
const elementsOf = (group) => [...group.querySelectorAll("path, use")].filter((each) => !each.closest("defs"));

for (const group of document.querySelectorAll(".panel g[data-trials]")) {
  const trials = group.dataset.trials.split(" ").map(Number);
  elementsOf(group).forEach((element, i) => {
    element.trial = trials[Math.min(i, trials.length - 1)];
    if (!nodes.has(element.trial)) nodes.set(element.trial, []);
    nodes.get(element.trial).push(element);
  });
}

function pin(trial) {
  pinned.has(trial) ? pinned.delete(trial) : pinned.add(trial);
  for (const element of nodes.get(trial) ?? []) element.classList.toggle("pin", pinned.has(trial));
  showPinned(trial);
}

// A value of an axis: its name, scale, limits, and where these are.
const valueAt = ([name, scale, low, high, start, end], place) => {
  const part = (place - start) / (end - start), log = scale === "log";
  const value = log ? low * (high / low) ** part : low + (high - low) * part;
  if (name === "epoch") return `epoch ${Math.round(value)}`;
  const shown = /\(%\)|\(points\)/.test(name) ? (100 * value).toFixed(1) : Number(value.toPrecision(3));
  return name && `${name}: ${shown}`;
};

for (const panel of panels) {
  const axes = JSON.parse(panel.dataset.axes);
  let points = null, nearest = null;
  const find = (event) => {
    points ??= [...panel.querySelectorAll("g[data-kind]:not([data-kind=band])")].flatMap((group) =>
      elementsOf(group).flatMap((element) => pointsOf(group, element).map((point) => [...point, group.dataset.series])));
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(panel.getScreenCTM().inverse());
    nearest = null;
    let least = 14 ** 2;
    for (const point of points) {
      if (point[2].classList.contains("off") || point[2].closest(".faded")) continue;
      const far = (point[0] - at.x) ** 2 + (point[1] - at.y) ** 2 - (point[2].trial === undefined ? 0 : 4);
      if (far < least) [least, nearest] = [far, point];
    }
  };
  panel.onpointermove = (event) => {
    find(event);
    tip.hidden = !nearest;
    if (!nearest) return;
    const [x, y, element, series] = nearest;
    const lines = [element.trial === undefined ? series : describe(element.trial), valueAt(axes.x, x), valueAt(axes.y, y)];
    tip.textContent = lines.filter(Boolean).join("\n");
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4))}px`;
  };
  panel.onpointerleave = () => { tip.hidden = true; };
  panel.onclick = (event) => {
    find(event);
    if (nearest?.[2].trial !== undefined) pin(nearest[2].trial);
  };
}

for (const key of document.querySelectorAll(".keys button")) key.onclick = () => {
  const on = key.ariaPressed !== "true", figure = key.closest("figure");
  for (const other of figure.querySelectorAll(".keys button")) other.ariaPressed = String(on && other === key);
  for (const group of figure.querySelectorAll("g[data-kind]")) group.classList.toggle("faded", on && group.dataset.series !== key.dataset.series);
};

const views = [...document.querySelectorAll(".tab")], choices = [...document.querySelectorAll("[name=factor]")];
const choose = () => views.forEach((view, i) => { view.hidden = !choices[i].checked; });
for (const choice of choices) choice.onchange = choose;
choose();

const copy = document.getElementById("copy");
if (copy) copy.onclick = () => {
  getSelection().selectAllChildren(document.getElementById("command"));
  copy.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
};
