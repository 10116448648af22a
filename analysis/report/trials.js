// Sorts and filters the table of trials, and links it to the figures and to the parallel coordinates, whose axes can be brushed.
const { axes, rows, trials } = data;
const plane = document.getElementById("plane"), filter = document.getElementById("filter");
const table = document.getElementById("trials"), trs = [...table.tBodies[0].rows];
const brushes = axes.map(() => null); // the part of each axis that is kept, from 0 (below) to 1; null: all
const clamp = (part) => Math.min(1, Math.max(0, part));
const width = Math.max(340, plane.clientWidth), aside = Math.min(70, width / axes.length / 2);
plane.setAttribute("viewBox", `0 0 ${width} 320`);
const x = (i) => aside + 12 + (i * (width - 2 * aside - 12)) / Math.max(1, axes.length - 1), y = (part) => 300 - 240 * part;
const draw = (name, attributes, parent, text = "") => {
  const node = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};

// The place of a value on its axis: by level, or in the range of what was run; and the labels of the axis.
const scales = axes.map((axis, i) => {
  const values = rows.map((row) => row[i]).filter((value) => value !== null);
  if (axis.levels) {
    const levels = [...new Set([...axis.levels, ...values])], place = (value) => (levels.indexOf(value) + 0.5) / levels.length;
    return { place, ticks: levels.map((level) => [place(level), { true: "yes", false: "no" }[level] ?? level]) };
  }
  const scale = axis.scale === "log" ? Math.log : Number, low = Math.min(...values), high = Math.max(...values);
  const place = (value) => (value === null ? null : (scale(value) - scale(low)) / (scale(high) - scale(low) || 1));
  const write = (value) => (axis.scale ? Number(value.toPrecision(3)) : (100 * value).toFixed(1) + "%");
  return { place, ticks: values.length ? [[0, write(low)], [1, write(high)]] : [] };
});
const places = rows.map((row) => row.map((value, i) => scales[i].place(value)));

const paths = places.map((parts, r) => {
  const points = parts.flatMap((part, i) => (part === null ? [] : [`${x(i)},${y(part)}`]));
  const path = draw("path", { d: "M" + points.join("L"), class: trs[r].className }, plane);
  path.onclick = () => pin(trials[r]);
  return path;
});

const groups = axes.map((axis, i) => {
  const name = axis.name.replaceAll("_", " ");
  const group = draw("g", { tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 }, plane);
  draw("line", { x1: x(i), x2: x(i), y1: y(1), y2: y(0) }, group);
  name.split(" ").forEach((word, line) => draw("text", { x: x(i), y: 14 + 14 * line }, group, word));
  for (const [part, text] of scales[i].ticks) draw("text", { x: Math.max(26, x(i) - 22), y: y(part) + 4 }, group, text);
  draw("rect", { class: "brush", x: x(i) - 8, width: 16 }, group);
  draw("rect", { x: x(i) - 20, width: 40, y: y(1) - 8, height: 256, fill: "transparent" }, group);
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.getScreenCTM().inverse());
    return clamp((300 - point.y) / 240);
  };
  const brush = (one, two) => { brushes[i] = [Math.min(one, two), Math.max(one, two)]; update(); };
  let start = null;
  group.onpointerdown = (event) => { start = at(event); group.setPointerCapture(event.pointerId); };
  group.onpointermove = (event) => { if (start !== null) brush(start, at(event)); };
  group.onpointerup = (event) => {
    const end = at(event);
    // A click resets the axis, or keeps what is there: a finger that is drawn along it scrolls the page.
    if (start !== null && Math.abs(end - start) < 0.01) {
      if (brushes[i]) { brushes[i] = null; update(); }
      else brush(clamp(end - 0.08), clamp(end + 0.08));
    }
    start = null;
  };
  group.onpointercancel = () => { start = null; };
  group.onkeydown = (event) => {
    const step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key], [low, high] = brushes[i] ?? [0, 1];
    if (step) event.shiftKey ? brush(low, clamp(high + step)) : brush(clamp(low + step), high);
    else if (event.key === "Escape") { brushes[i] = null; update(); }
    else return;
    event.preventDefault();
  };
  return group;
});

const texts = trs.map((tr) => [...tr.cells].flatMap((cell) => cell.textContent.toLowerCase().split(/\s+/)));
const buttons = trs.map((tr) => tr.cells[0].querySelector("button"));
const textOf = (r, column) => trs[r].cells[column].textContent;
describe = (trial) => {
  const r = trials.indexOf(trial);
  return r < 0 ? `trial ${trial}` : `trial ${trial} · ${textOf(r, 2)} · learning rate ${textOf(r, 3)} · ${textOf(r, 4)}`;
};
showPinned = (trial) => {
  const r = trials.indexOf(trial);
  if (r < 0) return;
  for (const node of [trs[r], paths[r]]) node.classList.toggle("pin", pinned.has(trial));
  buttons[r].ariaPressed = String(pinned.has(trial));
};
buttons.forEach((button, r) => { button.onclick = () => pin(trials[r]); });

function update() {
  const inside = (part, range) => !range || (part !== null && part >= range[0] - 1e-9 && part <= range[1] + 1e-9);
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  trs.forEach((tr, r) => {
    // A word is looked for at the start of the row's words, so 34 is not in 0.0034.
    const matches = words.every((word) => texts[r].some((text) => text.startsWith(word)));
    const kept = matches && brushes.every((range, i) => inside(places[r][i], range));
    paths[r].classList.toggle("out", !kept);
    tr.hidden = !kept;
    for (const node of nodes.get(trials[r]) ?? []) node.classList.toggle("off", !kept);
  });
  groups.forEach((group, i) => {
    const [low, high] = brushes[i] ?? [0, 0], percent = brushes[i]?.map((part) => `${Math.round(100 * part)}%`);
    const rect = group.querySelector(".brush");
    rect.setAttribute("y", y(high));
    rect.setAttribute("height", y(low) - y(high));
    group.setAttribute("aria-valuenow", Math.round(100 * low));
    group.setAttribute("aria-valuetext", percent ? `from ${percent.join(" to ")} of the axis` : "all");
  });
  document.getElementById("count").textContent = `${trs.filter((tr) => !tr.hidden).length} of ${trs.length} trials`;
}

[...table.tHead.rows[0].cells].forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
  // The best first: the greatest number, but the least loss; texts by alphabet.
  const least = /loss|trial|learning rate/.test(head.textContent) || !head.classList.contains("num");
  const sign = (head.ariaSort ? head.ariaSort === "descending" : least) ? 1 : -1;
  for (const cell of table.tHead.rows[0].cells) cell.ariaSort = null;
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  const value = (tr) => tr.cells[column].textContent.replaceAll(",", "");
  table.tBodies[0].append(...[...trs].sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    if (one === "–" || two === "–") return (one === "–") - (two === "–"); // missing values come last
    return sign * (parseFloat(one) - parseFloat(two) || one.localeCompare(two));
  }));
}));
filter.oninput = update;
update();
