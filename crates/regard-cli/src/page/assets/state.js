// What is looked at, and its copy in the address, so that a view can be linked to and comes back on reload.

const LONGEST_FRAGMENT = 200;

const state = {
  head: 0,
  other: -1,
  shownHead: -1,
  row: Math.min(Math.max(data.focus - rowStart, 0), Math.max(numRows - 1, 0)),
  shownRow: -1,
  reading: 0,
  log: false,
  role: -1,
};

/** The head on view: the one previewed, else the one kept. */
const currentHead = () => (state.shownHead >= 0 ? state.shownHead : state.head);
const currentRow = () => (state.shownRow >= 0 ? state.shownRow : state.row);
const currentReading = () => readings[state.reading];
/** The head compared with, or -1. */
const comparedHead = () => (state.other === currentHead() ? -1 : state.other);

function readingWith(noSink, norm) {
  return readings.findIndex((reading) => reading.noSink === noSink && reading.norm === norm);
}

function fragment() {
  const reading = currentReading();
  const parts = [headNames[state.head]];
  if (state.other >= 0) parts.push(`vs=${headNames[state.other]}`);
  if (numRows > 0) parts.push(`at=${rowStart + state.row}`);
  if (state.role >= 0) parts.push(`role=${data.roles[state.role].name}`);
  parts.push(reading.noSink ? "sink=off" : "sink=on");
  if (reading.norm) parts.push("norm=on");
  if (state.log) parts.push("log=on");
  return `#${parts.join("&")}`;
}

/** Takes what makes sense from an address and leaves the rest. */
function readFragment(text) {
  if (text.length < 2 || text.length > LONGEST_FRAGMENT) return;
  const parts = text.slice(1).split("&").slice(0, 8);
  const head = headNames.indexOf(parts[0]);
  if (head < 0) return;
  state.head = head;
  const value = (name) => parts.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
  state.other = headNames.indexOf(value("vs"));
  const at = value("at");
  if (/^\d{1,9}$/.test(at) && Number(at) >= rowStart && Number(at) < rowStart + numRows) state.row = Number(at) - rowStart;
  state.role = data.roles.findIndex((role) => role.name === value("role"));
  const sink = value("sink");
  const noSink = sink === "" ? currentReading().noSink : sink === "off";
  const reading = readingWith(noSink, value("norm") === "on");
  if (reading >= 0) state.reading = reading;
  state.log = value("log") === "on";
}

function writeFragment() {
  const wanted = fragment();
  if (location.hash === wanted) return;
  try {
    history.replaceState(null, "", wanted);
  } catch {
    // A browser that forbids it for local files: the view works, its address stays.
  }
}

/**
 * The head worth opening with, as `regard view` chooses: what the pinned token sends to a key at least two places back,
 * times the logarithm of how much more that is than usual.
 */
function mostTelling() {
  const reading = readings[0];
  const place = rowStart + state.row;
  let best = { head: 0, score: 0 };
  for (let head = 0; head < numHeads && numRows > 0; head++) {
    const link = reading.top(head, state.row).find(({ key }) => !isAside(key) && key >= rowStart);
    if (!link || link.key > place - 2 || link.prob < 0.2) continue;
    const usual = Math.max(reading.received(head, link.key - rowStart), 1e-4);
    const score = link.prob * Math.log(link.prob / usual);
    if (score > best.score) best = { head, score };
  }
  return best.head;
}
