// Sorts and filters the table of trials, and links it to the parallel coordinates, whose axes can be brushed.
const plane = document.getElementById("plane"), filter = document.getElementById("filter");
const { axes, rows } = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("trials"), trs = [...table.tBodies[0].rows];
const WIDTH = 1000, TOP = 40, BOTTOM = 290, brushes = axes.map(() => null); // a brush: [low, high] in parts of its axis
const svg = (name, attributes, parent) => {
  const node = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const x = (i) => 70 + (i * (WIDTH - 140)) / Math.max(1, axes.length - 1);
const y = (part) => BOTTOM - part * (BOTTOM - TOP);
const label = (value) => (typeof value === "boolean" ? (value ? "yes" : "no") : String(value));

// The place of a value on its axis, from 0 (below) to 1: by level, or in the range of what was run.
const places = axes.map((axis, i) => {
  const values = rows.map((row) => row[i]).filter((value) => value !== null);
  if (axis.levels) {
    const levels = [...new Set([...axis.levels, ...values])];
    const place = (value) => (levels.indexOf(value) + 0.5) / levels.length;
    return { place, ticks: levels.map((level) => [place(level), label(level)]) };
  }
  const scale = axis.scale === "log" ? Math.log : Number;
  const low = Math.min(...values), high = Math.max(...values), span = scale(high) - scale(low) || 1;
  const write = (value) => (axis.scale ? value.toPrecision(2) : (100 * value).toFixed(1) + "%");
  const ticks = values.length ? [[0, write(low)], [1, write(high)]] : [];
  return { place: (value) => (value === null ? null : (scale(value) - scale(low)) / span), ticks };
});

plane.setAttribute("viewBox", `0 0 ${WIDTH} 320`);
const paths = rows.map((row, r) => {
  const points = row.map((value, i) => [x(i), places[i].place(value)]).filter((point) => point[1] !== null);
  const path = svg("path", { d: "M" + points.map(([across, part]) => `${across},${y(part)}`).join("L") }, plane);
  const near = (on) => { path.classList.toggle("near", on); trs[r].style.outline = on ? "2px solid #d55e00" : ""; };
  for (const node of [path, trs[r]]) {
    node.addEventListener("pointerenter", () => near(true));
    node.addEventListener("pointerleave", () => near(false));
  }
  if (trs[r].classList.contains("best")) path.classList.add("best");
  return path;
});

const groups = axes.map((axis, i) => {
  const name = axis.name.replaceAll("_", " ");
  const group = svg("g", { tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 }, plane);
  svg("line", { x1: x(i), x2: x(i), y1: TOP, y2: BOTTOM }, group);
  svg("text", { x: x(i), y: 16 }, group).textContent = name;
  for (const [part, text] of places[i].ticks) svg("text", { x: x(i) - 26, y: y(part) + 4 }, group).textContent = text;
  const brush = svg("rect", { class: "brush", x: x(i) - 8, width: 16, y: TOP, height: 0 }, group);
  svg("rect", { x: x(i) - 20, width: 40, y: TOP - 8, height: BOTTOM - TOP + 16, fill: "transparent" }, group);
  const at = (event) => {
    const box = plane.getBoundingClientRect(); // the drawing is centred in its box
    const unit = Math.min(box.width / WIDTH, box.height / 320), top = box.top + (box.height - 320 * unit) / 2;
    return Math.min(1, Math.max(0, (BOTTOM - (event.clientY - top) / unit) / (BOTTOM - TOP)));
  };
  let start = null;
  group.addEventListener("pointerdown", (event) => { start = at(event); group.setPointerCapture(event.pointerId); });
  group.addEventListener("pointermove", (event) => {
    if (start !== null) { brushes[i] = [Math.min(start, at(event)), Math.max(start, at(event))]; update(); }
  });
  group.addEventListener("pointerup", (event) => {
    if (Math.abs(at(event) - start) < 0.01) brushes[i] = null; // a click gives all back
    start = null;
    update();
  });
  group.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key];
    if (event.key === "Escape") brushes[i] = null;
    else if (!step) return;
    else {
      const ends = brushes[i] ?? [0, 1], end = event.shiftKey ? 1 : 0;
      ends[end] = Math.min(1, Math.max(0, ends[end] + step));
      brushes[i] = ends[0] > ends[1] ? [ends[1], ends[1]] : ends;
    }
    event.preventDefault();
    update();
  });
  return { group, brush };
});

function update() {
  let shown = 0;
  trs.forEach((tr, r) => {
    const inside = brushes.every((range, i) => {
      const part = range && places[i].place(rows[r][i]);
      return !range || (part !== null && part >= range[0] - 1e-9 && part <= range[1] + 1e-9);
    });
    paths[r].classList.toggle("out", !inside);
    tr.hidden = !inside || !tr.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
    shown += !tr.hidden;
  });
  groups.forEach(({ group, brush }, i) => {
    const [low, high] = brushes[i] ?? [0, 0];
    brush.setAttribute("y", y(high));
    brush.setAttribute("height", y(low) - y(high));
    group.setAttribute("aria-valuenow", Math.round(100 * low));
    group.setAttribute("aria-valuetext", brushes[i] ? `from ${Math.round(100 * low)}% to ${Math.round(100 * high)}% of the axis` : "all");
  });
  document.getElementById("count").textContent = `${shown} of ${trs.length} trials`;
}

[...table.tHead.rows[0].cells].forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
  const sign = head.ariaSort === "descending" ? 1 : -1; // the greatest first, then the least
  for (const cell of table.tHead.rows[0].cells) cell.ariaSort = null;
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  const value = (tr) => tr.cells[column].textContent.replaceAll(",", "");
  table.tBodies[0].append(...[...trs].sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    if (one === "–" || two === "–") return (one === "–") - (two === "–"); // what is missing comes last
    return sign * (parseFloat(one) - parseFloat(two) || one.localeCompare(two));
  }));
}));
filter.addEventListener("input", update);
update();
