// Putting the page together.

let waiting = false;
/** What each part was painted from. */
const painted = new Map();

/** Paints a part unless it shows that already; what has the focus in it keeps it. */
function paintPart(paintIt, ...from) {
  const key = from.join(" ");
  if (painted.get(paintIt) === key) return;
  painted.set(paintIt, key);
  paintIt();
}

/** Paints once before the next frame, however much changed. */
function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

/** For screen readers. */
function tell(message) {
  byId("status").textContent = message;
}

function paint() {
  const reading = [state.reading, state.log];
  const heads = [currentHead(), comparedHead()];
  paintPart(paintGrid, ...reading);
  markGrid();
  paintHeadline();
  paintWords();
  paintPart(paintRow, currentRow(), state.shownRow >= 0, ...heads, ...reading);
  paintPart(paintMap, ...heads, ...reading);
  paintPart(paintScores, ...heads, ...reading);
  paintPart(paintDistance, byId("distance").clientWidth, ...heads, ...reading);
  paintPart(paintReceivedCard, byId("received").clientWidth, ...heads, ...reading);
  paintSwitches();
  writeFragment();
}

function paintSwitches() {
  const { noSink, norm } = currentReading();
  const set = (id, pressed, there) => {
    byId(id).setAttribute("aria-pressed", String(pressed));
    byId(id).hidden = !there;
  };
  set("switch-sink", noSink, readingWith(!noSink, norm) >= 0);
  set("switch-norm", norm, readingWith(noSink, !norm) >= 0);
  set("switch-log", state.log, true);
}

function switchTo(noSink, norm) {
  const reading = readingWith(noSink, norm);
  if (reading < 0) return;
  state.reading = reading;
  tell(`${noSink ? "Without" : "With"} special tokens and the first one${norm ? ", weighted by norms" : ""}`);
  changed();
}

function droppedSays() {
  const parts = [];
  const all = data.heads_in_all;
  if (numHeads < all) parts.push(`${count(numHeads)} of ${count(all)} heads`);
  const rows = numRows === data.units ? `all ${count(numRows)} rows` : `rows ${count(rowStart)} to ${count(rowStart + numRows - 1)} of ${count(data.units)}`;
  parts.push(`the ${data.plan.top_k} strongest keys of ${rows}`, "scores, maps, distances and received mass of all of them");
  const rest = numRows === data.units && data.plan.top_k >= data.units ? "Nothing is left out." : numRows === data.units ? "Weaker keys are left out to keep it below 3 MB." : "Weaker keys, and other rows’ keys, are left out to keep it below 3 MB; --rows and --at choose other rows.";
  const error = data.verify.rows > 0 ? ` Checked on ${count(data.verify.rows)} rows against a 64-bit reference: largest error ${data.verify.max_abs_error.toExponential(1)}.` : "";
  const [unit, size] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, size]) => data.dense_bytes >= size) ?? ["B", 1];
  const dense = `${(data.dense_bytes / size).toFixed(unit === "B" ? 0 : 1)} ${unit}`;
  return `On this page: ${parts.join("; ")}. ${rest} Probabilities are exact to 10⁻⁵, shades of maps to half a step of 255. The matrices of all heads would take ${dense}.${error}`;
}

/** Scrolls a box, and nothing around it, until what is in it is in its middle. */
function bringIntoView(box, inside) {
  const [outer, inner] = [box.getBoundingClientRect(), inside.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - outer.height / 2;
}

function start() {
  byId("app").hidden = false;
  byId("tools").hidden = false;
  buildGrid();
  buildWords();
  const named = data.head ? headNames.indexOf(`L${data.head.layer}.H${data.head.head}`) : -1;
  state.head = named >= 0 ? named : mostTelling();
  readFragment(location.hash);
  byId("dropped").textContent = droppedSays();
  byId("switch-sink").addEventListener("click", () => switchTo(!currentReading().noSink, currentReading().norm));
  byId("switch-norm").addEventListener("click", () => switchTo(currentReading().noSink, !currentReading().norm));
  byId("switch-log").addEventListener("click", () => {
    state.log = !state.log;
    changed();
  });
  byId("export-svg").addEventListener("click", exportSvg);
  byId("export-png").addEventListener("click", exportPng);
  byId("export-json").addEventListener("click", exportJson);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (state.shownHead < 0 && state.shownRow < 0) state.other = -1;
    state.shownHead = -1;
    state.shownRow = -1;
    changed();
  });
  addEventListener("hashchange", () => {
    readFragment(location.hash);
    changed();
  });
  const repaint = () => {
    theme = colours();
    painted.clear();
    changed();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  new ResizeObserver(changed).observe(byId("words-box"));
  paint();
  bringIntoView(byId("grid-box"), cells[state.head]);
  if (numRows > 0) bringIntoView(byId("words-box"), words[state.row]);
}

start();
