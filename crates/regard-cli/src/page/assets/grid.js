// The grid of heads: hovering or moving to one previews it, a click keeps it, with Shift it is compared.

const layers = [...new Set(data.heads.map(([layer]) => layer))];
const columns = [...new Set(data.heads.map(([, head]) => head))];
const cells = [];

function buildGrid() {
  const table = byId("grid");
  const corner = element("td", {});
  const names = columns.map((head) => element("th", { scope: "col" }, `H${head}`));
  table.append(element("thead", {}, element("tr", {}, corner, ...names)));
  const body = element("tbody", {});
  for (const layer of layers) {
    const row = element("tr", {}, element("th", { scope: "row" }, `L${layer}`));
    for (const head of columns) {
      const index = headNames.indexOf(`L${layer}.H${head}`);
      row.append(element("td", {}, ...(index < 0 ? [] : [buildCell(index)])));
    }
    body.append(row);
  }
  table.append(body);
  byId("grid-box").style.setProperty("--columns", columns.length);
  table.addEventListener("keydown", moveInGrid);
  whenPointedAt(table, cells, preview);
}

/** Where the mouse was last, and whether it has moved since; first of all that hear of a move. */
const mouse = { x: -1, y: -1, moved: false };
addEventListener(
  "pointermove",
  ({ clientX: x, clientY: y }) => Object.assign(mouse, { x, y, moved: x !== mouse.x || y !== mouse.y }),
  { capture: true },
);

/**
 * Calls with the place of what the mouse has moved to, -1 when it leaves. What merely scrolls under the mouse is not
 * pointed at.
 */
function whenPointedAt(box, parts, point) {
  let last = -1;
  const move = (place) => {
    if (place === last) return;
    last = place;
    point(place);
  };
  box.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || !mouse.moved) return;
    const place = parts.indexOf(event.target.closest("button"));
    if (place >= 0) move(place);
  });
  box.addEventListener("pointerleave", () => move(-1));
}

function buildCell(index) {
  const button = element("button", { type: "button", class: "cell", tabIndex: -1 }, element("canvas", {}), element("span", { class: "letter", "aria-hidden": "true" }));
  button.addEventListener("focus", () => button.matches(":focus-visible") && preview(index));
  button.addEventListener("blur", () => preview(-1));
  button.addEventListener("click", (event) => (event.shiftKey ? compare(index) : keep(index)));
  cells[index] = button;
  return button;
}

function preview(index) {
  state.shownHead = index;
  changed();
}

function keep(index) {
  if (state.other === index) state.other = -1;
  state.head = index;
  state.shownHead = -1;
  tell(`${headNames[index]} kept. ${summaryOf(index)}`);
  changed();
}

function compare(index) {
  state.other = index === state.head || index === state.other ? -1 : index;
  state.shownHead = -1;
  tell(state.other < 0 ? "Comparison ended" : `${headNames[state.head]} compared with ${headNames[index]}`);
  changed();
}

function moveInGrid(event) {
  const index = cells.indexOf(document.activeElement);
  if (index < 0) return;
  const [layer, head] = data.heads[index];
  let [row, column] = [layers.indexOf(layer), columns.indexOf(head)];
  const last = columns.length - 1;
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -last], End: [0, last], PageUp: [-5, 0], PageDown: [5, 0] };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  row = Math.min(Math.max(row + move[0], 0), layers.length - 1);
  column = Math.min(Math.max(column + move[1], 0), last);
  const next = headNames.indexOf(`L${layers[row]}.H${columns[column]}`);
  if (next >= 0) {
    cells.forEach((cell) => (cell.tabIndex = -1));
    cells[next].tabIndex = 0;
    cells[next].focus();
    preview(next);
  }
}

/** Colours and letters; only when the reading, the scale or the theme changed. */
function paintGrid() {
  const reading = currentReading();
  const colourOf = palette();
  cells.forEach((cell, index) => {
    const [canvas, letter] = cell.children;
    paintThumbnail(canvas, reading.thumbnail(index), reading.raw.thumbnail.columns, colourOf);
    const [role] = reading.rolesOf(index);
    letter.textContent = role === undefined ? "" : data.roles[role].letter;
    cell.dataset.role = role === undefined ? "" : data.roles[role].name;
    cell.setAttribute("aria-label", `${headNames[index]}, ${summaryOf(index)}`);
  });
  const ramp = byId("ramp").getContext("2d");
  for (let x = 0; x < 256; x++) {
    ramp.fillStyle = `rgb(${rampColour(x / 255).join(" ")})`;
    ramp.fillRect(x, 0, 1, 1);
  }
  const marks = state.log ? ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"] : ["0", "6 %", "25 %", "56 %", "100 %"];
  byId("ramp-marks").replaceChildren(...marks.map((mark) => element("span", {}, mark)));
  paintRoles();
  paintGridNote(reading);
}

function paintGridNote(reading) {
  const { side } = data.plan;
  const per = data.units / side;
  const size = per === 1 ? "one token" : `about ${count(Math.round(per))} tokens`;
  const dropped = reading.noSink ? " Without special tokens and the first one; the rest adds up to 100 %." : " All mass is in it.";
  byId("grid-note").textContent =
    `Each square is a head: rows look, columns are looked at, a cell is ${size} each way. The scale is the same for all.${dropped}`;
}

function paintRoles() {
  const reading = currentReading();
  const held = data.roles.map((_, bit) => reading.roles.filter((roles) => roles & (1 << bit)).length);
  if (state.role >= 0 && held[state.role] === 0) state.role = -1;
  const chips = data.roles.map((role, bit) => {
    if (held[bit] === 0) return null;
    const letter = element("span", { class: "letter", "aria-hidden": "true" }, role.letter);
    const chip = element("button", { type: "button", class: "chip", "aria-pressed": String(state.role === bit) }, letter, ` ${role.name} `, element("span", { class: "number" }, String(held[bit])));
    chip.dataset.role = role.name;
    chip.addEventListener("click", () => {
      state.role = state.role === bit ? -1 : bit;
      changed();
      byId("roles").querySelector(`[data-role="${role.name}"]`)?.focus();
    });
    return chip;
  });
  byId("roles").replaceChildren(...chips.filter(Boolean));
  const none = held.every((number) => number === 0);
  byId("roles-note").hidden = !none;
  byId("roles-note").textContent = reading.raw.counted.broad < 30
    ? `Roles need 30 rows of text; this one has ${reading.raw.counted.broad}. What each head does with each token can be seen all the same.`
    : "No head reaches the bar of a role on this text.";
}

/** Which cells are kept, compared, or pointed out. */
function markGrid() {
  const reading = currentReading();
  const shown = currentHead();
  cells.forEach((cell, index) => {
    cell.setAttribute("aria-pressed", String(index === state.head));
    cell.classList.toggle("kept", index === state.head);
    cell.classList.toggle("compared", index === comparedHead());
    cell.classList.toggle("shown", index === shown && index !== state.head);
    cell.classList.toggle("dim", state.role >= 0 && !(reading.roles[index] & (1 << state.role)));
    if (!cells.includes(document.activeElement)) cell.tabIndex = index === state.head ? 0 : -1;
  });
  for (const chip of byId("roles").children) chip.setAttribute("aria-pressed", String(state.role >= 0 && chip.dataset.role === data.roles[state.role].name));
}
