// What is known about the head on view, and about the one it is compared with.

const ROLE_SAYS = {
  previous: "looks at the token before",
  next: "looks at the token after",
  itself: "looks at itself",
  induction: "looks at what followed earlier copies of the token",
  duplicate: "looks at other copies of the token",
  local: "looks at most 8 tokens away",
  broad: "spreads its mass nearly evenly",
  special: "looks at special tokens",
  "first-token": "looks at the first token, whatever it is",
};

/** A head's roles with their scores, and how spread it is. */
function summaryOf(head) {
  const reading = currentReading();
  const roles = reading.rolesOf(head).map((bit) => data.roles[bit].name);
  const entropy = `entropy ${reading.score("entropy", head).toFixed(2)} nats`;
  if (roles.length === 0) return reading.raw.counted.broad < 30 ? entropy : `no role, ${entropy}`;
  return `${roles.map((name) => `${ROLE_SAYS[name]} (${percent(reading.score(name, head))})`).join("; ")}; ${entropy}`;
}

/** What the shares of a card are of. */
const allMass = () => (currentReading().noSink ? "all mass on others than special tokens and the first one" : "all mass");

function paintHeadline() {
  const head = currentHead();
  const other = comparedHead();
  const title = [element("span", { class: "name-a" }, headNames[head])];
  if (other >= 0) title.push(element("span", { class: "versus" }, " beside "), element("span", { class: "name-b" }, headNames[other]));
  byId("head-title").replaceChildren(...title);
  const badges = currentReading().rolesOf(head).map((bit) => {
    const badge = element("span", { class: "badge" }, element("span", { class: "letter", "aria-hidden": "true" }, data.roles[bit].letter), ` ${data.roles[bit].name}`);
    badge.dataset.role = data.roles[bit].name;
    return badge;
  });
  byId("head-roles").replaceChildren(...badges);
  byId("preview").textContent = state.shownHead >= 0 && state.shownHead !== state.head ? "preview: click keeps it, Shift-click compares, Esc goes back" : "";
  const both = other < 0 ? "" : `${headNames[head]} `;
  const beside = other < 0 ? "" : ` ${headNames[other]} ${summaryOf(other)}.`;
  const says = `${both}${summaryOf(head)}.${beside}`;
  byId("head-says").textContent = says[0].toUpperCase() + says.slice(1);
}

function paintMap() {
  const reading = currentReading();
  const colourOf = palette();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  const maps = heads.map((head, which) => {
    const canvas = element("canvas", { class: "map", role: "img" });
    canvas.setAttribute("aria-label", `Map of ${headNames[head]}: rows look, columns are looked at`);
    paintThumbnail(canvas, reading.thumbnail(head), reading.raw.thumbnail.columns, colourOf);
    const frame = element("div", { class: `map-frame map-${which === 0 ? "a" : "b"}`, tabIndex: 0, role: "group" }, canvas, element("span", { class: "cursor", hidden: true }));
    frame.setAttribute("aria-label", `Map of ${headNames[head]}; arrow keys read its cells`);
    watchMap(frame, head);
    return frame;
  });
  byId("maps").classList.toggle("two", maps.length > 1);
  byId("maps").replaceChildren(...maps);
  byId("map-note").textContent = mapNote();
}

function mapNote() {
  const { rows, columns } = currentReading().raw.thumbnail;
  return `Rows, downwards, look at columns. ${rows} × ${columns} cells hold ${allMass()}; point at one to read it.`;
}

/** Reads cells by pointer or by arrow keys. */
function watchMap(frame, head) {
  const reading = currentReading();
  const { rows, columns } = reading.raw.thumbnail;
  const shades = reading.thumbnail(head);
  const at = { row: -1, column: -1 };
  const cursor = frame.lastChild;
  const show = (row, column) => {
    Object.assign(at, { row: Math.min(Math.max(row, 0), rows - 1), column: Math.min(Math.max(column, 0), columns - 1) });
    cursor.hidden = false;
    cursor.style.left = `${(at.column / columns) * 100}%`;
    cursor.style.top = `${(at.row / rows) * 100}%`;
    cursor.style.width = `${100 / columns}%`;
    cursor.style.height = `${100 / rows}%`;
    const { start, end } = data.profiled_rows;
    const mass = (shades[at.row * columns + at.column] / 255) ** 2;
    const note = element("span", {}, `${headNames[head]}: `, ...stretch(at.row, rows, end - start, start), " → ", ...stretch(at.column, columns, data.units, 0), `: about ${percent(mass)}`);
    byId("map-note").replaceChildren(note);
  };
  const hide = () => {
    cursor.hidden = true;
    byId("map-note").textContent = mapNote();
  };
  const canvas = frame.firstChild;
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    show(Math.floor(((event.clientY - box.top) / box.height) * rows), Math.floor(((event.clientX - box.left) / box.width) * columns));
  });
  canvas.addEventListener("pointerleave", hide);
  frame.addEventListener("blur", hide);
  frame.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    show(at.row + move[0], at.column + move[1]);
  });
}

/** The tokens of a block: ⌊i·blocks/of⌋ is the block of the i-th. */
function stretch(block, blocks, of, start) {
  const first = Math.ceil((block * of) / blocks);
  const last = Math.ceil(((block + 1) * of) / blocks) - 1;
  return first === last ? [wordOf(start + first)] : [`tokens ${count(start + first)}–${count(start + last)}`];
}

function paintScores() {
  const reading = currentReading();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  const shuffled = data.shuffled && state.reading === 0;
  const controlled = heads.length === 1;
  const controlTitles = controlled ? ["equal weights", ...(shuffled ? ["shuffled"] : [])] : [];
  const titles = ["", ...heads.map((head) => headNames[head]), "needs", ...controlTitles];
  const table = element("table", { class: "scores" }, element("thead", {}, element("tr", {}, ...titles.map((title, i) => (i === 0 ? element("td", {}) : element("th", { scope: "col" }, title))))));
  const body = element("tbody", {});
  for (const { name, letter } of data.roles) {
    const scores = heads.map((head) => reading.score(name, head));
    // No such tokens are in the text.
    if (scores[0] === null || reading.raw.uniform[name] === 0) continue;
    const badge = element("span", { class: "letter", "aria-hidden": "true" }, letter);
    const title = element("th", { scope: "row" }, badge, ` ${name}`);
    title.dataset.role = name;
    const cells = scores.map((score, which) => {
      const fill = element("span", { class: `fill fill-${which === 0 ? "a" : "b"}` });
      fill.style.width = `${(barLevel(score) * 100).toFixed(1)}%`;
      const cell = element("td", { class: "score" }, percent(score), element("span", { class: "bar", "aria-hidden": "true" }, fill));
      if (reading.roles[heads[which]] & (1 << data.roles.findIndex((role) => role.name === name))) cell.classList.add("held");
      return cell;
    });
    // What equal weights alone reach nearly cannot be shown on so short a text.
    const least = reading.raw.least[name];
    const controls = [percent(least > 1 ? null : least)];
    if (controlled) controls.push(percent(reading.raw.uniform[name]));
    if (controlled && shuffled) controls.push(percent(data.shuffled[name][heads[0]]));
    body.append(element("tr", {}, title, ...cells, ...controls.map((control) => element("td", { class: "quiet" }, control))));
  }
  table.append(body);
  byId("scores").replaceChildren(table);
  const [head] = heads;
  const rows = `Means over ${count(reading.raw.counted.broad)} rows of the text. `;
  const facts = `Entropy ${reading.score("entropy", head).toFixed(2)} nats, largest probability ${percent(reading.score("max_prob", head))}. `;
  const least = "A role needs that, which is at least three times what equal weights score, and 30 rows.";
  const control = controlled && shuffled ? ` Shuffled: ${headNames[head]} on the first ${count(data.control.tokens)} tokens in another order.` : "";
  byId("scores-note").textContent = rows + facts + least + control;
}

/** The least distance of a bin, with its sign. */
function binStart(bin, bins) {
  const middle = (bins - 1) / 2;
  if (bin === middle) return 0;
  return bin < middle ? -(2 ** (middle - bin - 1)) : 2 ** (bin - middle - 1);
}

function distanceDrawing(width) {
  const reading = currentReading();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  const { bins, uniform } = reading.raw.distance;
  const shown = Array.from({ length: bins }, (_, bin) => bin).filter((bin) => !data.model.causal || binStart(bin, bins) <= 0);
  const [left, bottom, top, height] = [34, 30, 8, 150];
  const step = (width - left) / shown.length;
  const drawing = new Drawing(width, height);
  const y = (level) => height - bottom - level * (height - bottom - top);
  for (const [mass, name] of state.log ? [[0.0001, "0.01 %"], [0.01, "1 %"], [1, "100 %"]] : [[0, "0"], [0.5, "50 %"], [1, "100 %"]]) {
    drawing.path(`M${left} ${y(barLevel(mass)).toFixed(1)}H${width}`, theme.line, 1);
    drawing.text(left - 4, y(barLevel(mass)) + 4, name, { size: 10, fill: theme.muted, anchor: "end" });
  }
  const masses = heads.map((head) => reading.distance(head));
  shown.forEach((bin, i) => {
    const x = left + i * step;
    const each = (step - 3) / heads.length;
    masses.forEach((of, which) => {
      const tall = y(0) - y(barLevel(of[bin]));
      drawing.rect(x + 1.5 + which * each, y(0) - tall, Math.max(each - (heads.length > 1 ? 1 : 0), 1), tall, which === 0 ? theme.a : theme.b);
    });
    const even = y(barLevel(uniform[bin])).toFixed(1);
    drawing.path(`M${(x + 1.5).toFixed(1)} ${even}H${(x + step - 1.5).toFixed(1)}`, theme.ink, 1.5);
    const every = Math.max(1, Math.ceil(26 / step));
    const start = binStart(bin, bins);
    const fromMiddle = Math.abs(i - shown.findIndex((other) => binStart(other, bins) === 0));
    if (fromMiddle % every === 0) drawing.text(x + step / 2, height - 16, String(start).replace("-", "−"), { size: 10, fill: theme.muted, anchor: "middle" });
  });
  drawing.text(left, height - 3, data.model.causal ? "tokens back" : "tokens back, or ahead", { size: 10, fill: theme.muted });
  return drawing;
}

function distanceSays() {
  const reading = currentReading();
  const head = currentHead();
  const { bins } = reading.raw.distance;
  const masses = reading.distance(head);
  const most = masses.indexOf(Math.max(...masses));
  return `${headNames[head]}: most mass, ${percent(masses[most])}, at distance ${binStart(most, bins)}; mean distance ${reading.score("mean_distance", head).toFixed(1)}`;
}

function paintDistance() {
  const box = byId("distance");
  box.replaceChildren(distanceDrawing(Math.max(box.clientWidth, 220)).svg(distanceSays()));
  byId("distance-note").textContent = `${distanceSays()}. Bars add up to ${allMass()}, by powers of two; thin marks are what equal weights give.`;
}

function receivedDrawing(width) {
  const reading = currentReading();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  const [height, bottom] = [64, 16];
  const drawing = new Drawing(width, height);
  const n = data.plan.stretches;
  const base = height - bottom;
  const masses = heads.map((head) => reading.stretches(head));
  const most = Math.max(...masses.flat());
  const tallest = barLevel(most) || 1;
  const step = width / n;
  masses.forEach((of, which) => {
    of.forEach((mass, i) => {
      const tall = Math.max((barLevel(mass) / tallest) * (base - 14), mass > 0 ? 1 : 0);
      const each = Math.max(step / heads.length - (step > 4 ? 1 : 0), 0.8);
      drawing.rect(i * step + (which * step) / heads.length, base - tall, each, tall, which === 0 ? theme.a : theme.b);
    });
  });
  drawing.path(`M0 ${base + 0.5}H${width}`, theme.edge, 1);
  const peak = masses.map((of) => of.indexOf(most)).find((at) => at >= 0) * step;
  const late = peak > width - 60;
  drawing.text(late ? peak - 4 : peak + step + 4, 10, percent(most), { size: 10, fill: theme.muted, anchor: late ? "end" : "start" });
  if (numRows > 0 && numRows < data.units) {
    const x = (place) => (place / data.units) * width;
    drawing.path(`M${x(rowStart).toFixed(1)} ${base + 4}H${Math.max(x(rowStart + numRows), x(rowStart) + 2).toFixed(1)}`, theme.ink, 3);
    drawing.text(Math.min(x(rowStart), width - 84), height - 1, "the rows shown", { size: 10, fill: theme.muted });
  } else {
    drawing.text(0, height - 2, "start", { size: 10, fill: theme.muted });
    drawing.text(width, height - 2, "end of the text", { size: 10, fill: theme.muted, anchor: "end" });
  }
  return drawing;
}

function paintReceivedCard() {
  const reading = currentReading();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  const lists = heads.map((head, which) => {
    const items = reading.receivers(head).map(({ key, share }) => element("li", {}, element("span", { class: "name" }, wordOf(key), element("span", { class: "far" }, ` at ${count(key)}`)), element("span", { class: "number" }, percent(share))));
    return element("ol", { class: `receivers list-${which === 0 ? "a" : "b"}` }, ...items);
  });
  const strip = element("div", { class: "strip" });
  const box = byId("received");
  box.replaceChildren(strip, ...lists);
  strip.append(receivedDrawing(Math.max(box.clientWidth, 220)).svg("Mass received over the text"));
  const share = percent(Math.min(1, reading.receivers(heads[0]).reduce((sum, { share: part }) => sum + part, 0)));
  byId("received-note").textContent = `Shares of ${allMass()} of ${headNames[heads[0]]}: the tokens named get ${share}; the bars add up to all, in ${count(data.plan.stretches)} stretches.`;
}
