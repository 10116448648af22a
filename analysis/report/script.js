// Sorts and filters the table of trials, and links it to the parallel coordinates, whose axes can be brushed.
const { axes, rows } = JSON.parse(document.getElementById("data").textContent);
const plane = document.getElementById("plane"), filter = document.getElementById("filter");
const table = document.getElementById("trials"), trs = [...table.tBodies[0].rows];
const brushes = axes.map(() => null); // the part of each axis that is kept, from 0 (below) to 1; null: all
const clamp = (part) => Math.min(1, Math.max(0, part));
const x = (i) => 70 + (i * 860) / Math.max(1, axes.length - 1), y = (part) => 290 - 250 * part;
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
  return draw("path", { d: "M" + points.join("L"), class: trs[r].className }, plane);
});

const groups = axes.map((axis, i) => {
  const name = axis.name.replaceAll("_", " ");
  const group = draw("g", { tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 }, plane);
  draw("line", { x1: x(i), x2: x(i), y1: y(1), y2: y(0) }, group);
  draw("text", { x: x(i), y: 16 }, group, name);
  for (const [part, text] of scales[i].ticks) draw("text", { x: x(i) - 26, y: y(part) + 4 }, group, text);
  draw("rect", { class: "brush", x: x(i) - 8, width: 16 }, group);
  draw("rect", { x: x(i) - 20, width: 40, y: y(1) - 8, height: 266, fill: "transparent" }, group);
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.getScreenCTM().inverse());
    return clamp((290 - point.y) / 250);
  };
  const brush = (one, two) => { brushes[i] = [Math.min(one, two), Math.max(one, two)]; update(); };
  let start = null;
  group.onpointerdown = (event) => { start = at(event); group.setPointerCapture(event.pointerId); };
  group.onpointermove = (event) => { if (start !== null) brush(start, at(event)); };
  group.onpointerup = (event) => {
    if (Math.abs(at(event) - start) < 0.01) { brushes[i] = null; update(); } // a click resets the axis
    start = null;
  };
  group.onkeydown = (event) => {
    const step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key], [low, high] = brushes[i] ?? [0, 1];
    if (step) event.shiftKey ? brush(low, clamp(high + step)) : brush(clamp(low + step), high);
    else if (event.key === "Escape") { brushes[i] = null; update(); }
    else return;
    event.preventDefault();
  };
  return group;
});

function update() {
  const inside = (part, range) => !range || (part !== null && part >= range[0] - 1e-9 && part <= range[1] + 1e-9);
  trs.forEach((tr, r) => {
    const kept = brushes.every((range, i) => inside(places[r][i], range));
    paths[r].classList.toggle("out", !kept);
    tr.hidden = !kept || !tr.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
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
  const sign = head.ariaSort === "descending" ? 1 : -1; // the greatest first, then the least
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
