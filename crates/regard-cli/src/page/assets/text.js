// The text, with lines from the token looked from to the keys it looks at.

const words = [];

function buildWords() {
  const box = byId("words");
  const lines = element("div", { class: "lines", "aria-hidden": "true" });
  box.append(lines);
  // Each line of the text is one of the page, which may wrap.
  let line = element("div", { class: "line" });
  box.append(line);
  if (rowStart > 0) line.append(element("span", { class: "cut" }, `… ${count(rowStart)} before`));
  for (let row = 0; row < numRows; row++) {
    const place = rowStart + row;
    const bar = element("span", { class: "received", "aria-hidden": "true" });
    const word = element("button", { type: "button", class: "word", tabIndex: -1 }, wordOf(place), bar);
    if (isAside(place)) word.classList.add("aside");
    word.addEventListener("focus", () => word.matches(":focus-visible") && lookFrom(row));
    word.addEventListener("blur", () => lookFrom(-1));
    word.addEventListener("click", () => pin(row));
    words.push(word);
    line.append(word);
    if (/^↵+$/.test(labelOf(place)) && row + 1 < numRows) {
      line = element("div", { class: "line" });
      box.append(line);
    }
  }
  const after = data.units - rowStart - numRows;
  if (after > 0) line.append(element("span", { class: "cut" }, `${count(after)} after …`));
  whenPointedAt(box, words, lookFrom);
  box.addEventListener("keydown", moveInText);
}

function lookFrom(row) {
  state.shownRow = row;
  changed();
}

function pin(row) {
  state.row = row;
  state.shownRow = -1;
  tell(`${labelOf(rowStart + row)} pinned`);
  changed();
}

/** Special tokens are lower than words, and stand in the same line. */
const sameLine = (one, other) => Math.abs(placeOf(one).middle - placeOf(other).middle) < 12;

function moveInText(event) {
  const row = words.indexOf(document.activeElement);
  if (row < 0) return;
  const middle = (word) => word.offsetLeft + word.offsetWidth / 2;
  const inLine = (step) => {
    const here = words[row];
    let best = -1;
    for (let i = row; i >= 0 && i < numRows; i += step) {
      const there = words[i];
      if (sameLine(there, here)) continue;
      if (best >= 0 && !sameLine(there, words[best])) break;
      if (best < 0 || Math.abs(middle(there) - middle(here)) < Math.abs(middle(words[best]) - middle(here))) best = i;
    }
    return best < 0 ? row : best;
  };
  const moves = { ArrowLeft: () => row - 1, ArrowRight: () => row + 1, ArrowUp: () => inLine(-1), ArrowDown: () => inLine(1), Home: () => 0, End: () => numRows - 1 };
  if (!moves[event.key]) return;
  event.preventDefault();
  const next = Math.min(Math.max(moves[event.key](), 0), numRows - 1);
  words.forEach((word) => (word.tabIndex = -1));
  words[next].tabIndex = 0;
  words[next].focus();
  lookFrom(next);
}

/** Bars under the tokens: the mass that each receives in the head on view, beside the token of the text that receives most. */
function paintReceived() {
  if (numRows === 0) return;
  const reading = currentReading();
  const head = currentHead();
  const masses = words.map((_, row) => reading.received(head, row));
  const ofText = masses.map((mass, row) => (isAside(rowStart + row) ? 0 : mass));
  const most = ofText.indexOf(Math.max(...ofText));
  const longest = barLevel(ofText[most]) || 1;
  words.forEach((word, row) => word.lastChild.style.setProperty("--mass", Math.min(barLevel(masses[row]) / longest, 1).toFixed(4)));
  byId("words-note").replaceChildren(
    "Point at a token to see where it looks; a click pins it. Bars below tokens: what each gets on average from those that see it; of the text, “",
    wordOf(rowStart + most),
    `” gets most, ${percent(masses[most])}.`,
  );
}

function paintWords() {
  const reading = currentReading();
  const row = currentRow();
  const heads = [currentHead(), comparedHead()];
  const strengths = heads.map((head) => new Map(head < 0 || numRows === 0 ? [] : reading.top(head, row).map((link) => [link.key - rowStart, link.prob])));
  words.forEach((word, at) => {
    const [a, b] = strengths.map((links) => links.get(at) ?? 0);
    word.classList.toggle("from", at === row);
    word.classList.toggle("key", a > 0 || b > 0);
    word.classList.toggle("key-b", b > a);
    word.style.setProperty("--strength", (Math.max(barLevel(a), barLevel(b)) * 100).toFixed(1));
    word.setAttribute("aria-pressed", String(at === state.row));
    if (!words.includes(document.activeElement)) word.tabIndex = at === state.row ? 0 : -1;
  });
  paintReceived();
  paintLines();
}

function paintLines() {
  const box = byId("words");
  if (numRows > 0) {
    box.classList.add("one-line");
    box.classList.toggle("one-line", sameLine(words[0], words[numRows - 1]));
    box.classList.toggle("two", comparedHead() >= 0);
  }
  const drawing = lineDrawing();
  box.firstChild.replaceChildren(drawing.svg());
}

/** Lines of the head on view above the text, those of the compared one below it and dashed. */
function lineDrawing() {
  const box = byId("words");
  const drawing = new Drawing(box.scrollWidth, box.scrollHeight);
  if (numRows === 0) return drawing;
  const reading = currentReading();
  const row = currentRow();
  const from = placeOf(words[row]);
  [currentHead(), comparedHead()].forEach((head, which) => {
    if (head < 0) return;
    const colour = which === 0 ? theme.a : theme.b;
    // Weak ones first, so that strong ones lie on top.
    for (const { key, prob } of reading.top(head, row).reverse()) {
      const to = words[key - rowStart];
      if (!to || barLevel(prob) < 0.004) continue;
      const width = 1 + 7 * barLevel(prob);
      const { d, x, y } = lineBetween(from, placeOf(to), which === 1);
      drawing.path(d, colour, width.toFixed(2), which === 1 ? `${(width * 1.5 + 2).toFixed(1)} ${(width + 3).toFixed(1)}` : "");
      drawing.dot(x, y, Math.max(2, width / 2 + 0.8), colour);
    }
  });
  return drawing;
}

function placeOf(word) {
  const [top, height] = [word.offsetTop, word.offsetHeight];
  return { x: word.offsetLeft + word.offsetWidth / 2, top, middle: top + height / 2, bottom: top + height };
}

function lineBetween(from, to, below) {
  const n = (number) => number.toFixed(1);
  if (Math.abs(from.middle - to.middle) < 12) {
    const [edge, end] = below ? [from.bottom, to.bottom] : [from.top, to.top];
    const room = byId("words").classList.contains("one-line") ? (below ? 34 : 60) : 20;
    const rise = (below ? 1 : -1) * Math.min(8 + Math.abs(to.x - from.x) * 0.2, room);
    if (from.x === to.x) return { d: `M${n(from.x - 9)} ${n(edge)}C${n(from.x - 14)} ${n(edge + rise * 2)} ${n(from.x + 14)} ${n(edge + rise * 2)} ${n(from.x + 9)} ${n(edge)}`, x: to.x + 9, y: edge };
    return { d: `M${n(from.x)} ${n(edge)}C${n(from.x)} ${n(edge + rise * 1.3)} ${n(to.x)} ${n(edge + rise * 1.3)} ${n(to.x)} ${n(end)}`, x: to.x, y: end };
  }
  const [start, end] = to.middle < from.middle ? [from.top, to.bottom] : [from.bottom, to.top];
  const bend = (end - start) * 0.5;
  return { d: `M${n(from.x)} ${n(start)}C${n(from.x)} ${n(start + bend)} ${n(to.x)} ${n(end - bend)} ${n(to.x)} ${n(end)}`, x: to.x, y: end };
}

function paintRow() {
  const place = rowStart + currentRow();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  if (numRows === 0) {
    byId("row-says").textContent = "No rows fit beside so many heads; choose fewer layers or heads.";
    return;
  }
  const verb = state.shownRow >= 0 ? "previewed" : "pinned";
  byId("row-says").replaceChildren("Where “", wordOf(place), "” looks ", element("span", { class: "far" }, `${data.unit} ${count(place)}, ${verb}`));
  byId("lists").replaceChildren(...heads.map((head) => listOf(head, head === heads[0] ? "a" : "b")));
  byId("row-note").textContent = heads.map((head) => coverageOf(head)).join(" ");
}

/** The strongest keys by name; the weakest, where there are many, in one line. */
const MOST_NAMED = 8;

function listOf(head, colour) {
  const all = currentReading().top(head, currentRow());
  const links = all.slice(0, MOST_NAMED);
  const items = links.map(({ key, prob }) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span", { class: "fill" }));
    bar.firstChild.style.width = `${(barLevel(prob) * 100).toFixed(1)}%`;
    const far = words[key - rowStart] ? "" : ` at ${count(key)}`;
    const name = element("span", { class: "name" }, wordOf(key));
    if (far && labelOf(key) !== `token ${key}`) name.append(element("span", { class: "far" }, far));
    return element("li", {}, name, bar, element("span", { class: "number" }, percent(prob)));
  });
  const rest = all.slice(MOST_NAMED);
  if (rest.length > 0) {
    const sum = rest.reduce((mass, { prob }) => mass + prob, 0);
    items.push(element("li", { class: "rest" }, element("span", { class: "far" }, `${rest.length} weaker ones`), element("span", {}), element("span", { class: "number" }, percent(sum))));
  }
  const title = comparedHead() >= 0 ? [element("h4", { class: `name-${colour}` }, headNames[head])] : [];
  return element("div", { class: `list list-${colour}` }, ...title, element("ol", {}, ...items));
}

/** What share of the row is shown, of what. */
function coverageOf(head) {
  const reading = currentReading();
  const links = reading.top(head, currentRow());
  const sum = Math.min(links.reduce((all, { prob }) => all + prob, 0), 1);
  const kept = reading.raw.kept?.[head];
  const of = reading.noSink
    ? ` of what it gives to others than special tokens and the first one${kept === null || kept === undefined ? "" : ` (${percent(kept)} of this head’s mass)`}`
    : " of this row";
  const norm = reading.norm ? ", weighted by what each value adds" : "";
  const rest = 1 - sum < 0.0005 ? "nothing is left out" : `${percent(1 - sum)} goes to keys that are left out here`;
  return `${headNames[head]}: ${count(links.length)} keys with ${percent(sum)}${of}${norm}; ${rest}.`;
}
