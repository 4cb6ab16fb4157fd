// The data that the page carries; JSON.md says what each field means.

const data = JSON.parse(document.getElementById("data").textContent);
const numHeads = data.heads.length;
const rowStart = data.plan.rows.start;
const numRows = data.plan.rows.end - rowStart;
const headNames = data.heads.map(([layer, head]) => `L${layer}.H${head}`);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Unsigned little-endian numbers of `width` bytes. */
function numbersOf(base64, width) {
  const bytes = bytesOf(base64);
  const numbers = new Uint32Array(bytes.length / width);
  for (let i = 0; i < bytes.length; i++) numbers[Math.floor(i / width)] += bytes[i] * 256 ** (i % width);
  return numbers;
}

/** A reading with its packed fields opened, each when it is first asked for. */
class Reading {
  constructor(raw) {
    Object.assign(this, { raw, noSink: raw.no_sink, norm: raw.norm, scores: raw.scores, roles: raw.roles, opened: new Map() });
  }

  open(name, make) {
    if (!this.opened.has(name)) this.opened.set(name, make());
    return this.opened.get(name);
  }

  shares(name, base64) {
    return this.open(name, () => numbersOf(base64, 2));
  }

  /** Quantised masses of a thumbnail: mass = (q/255)². */
  thumbnail(head) {
    const { rows, columns, masses } = this.raw.thumbnail;
    const all = this.open("thumbnail", () => bytesOf(masses));
    return all.subarray(head * rows * columns, (head + 1) * rows * columns);
  }

  /** The strongest keys of a row of the window. */
  top(head, row) {
    const { place_bytes: width, keys, probs } = this.raw.top;
    const allKeys = this.open("keys", () => numbersOf(keys, width));
    const allProbs = this.shares("probs", probs);
    const none = 256 ** width - 1;
    const start = (head * numRows + row) * data.plan.top_k;
    const links = [];
    for (let i = start; i < start + data.plan.top_k; i++) {
      if (allKeys[i] !== none && allProbs[i] > 0) links.push({ key: allKeys[i], prob: allProbs[i] / 65535 });
    }
    return links;
  }

  distance(head) {
    const { bins, masses } = this.raw.distance;
    return Array.from(this.shares("distance", masses).subarray(head * bins, (head + 1) * bins), (q) => q / 65535);
  }

  /** Share of all mass that each stretch of the text gets. */
  stretches(head) {
    const n = data.plan.stretches;
    const all = this.shares("stretches", this.raw.received.stretches);
    return Array.from(all.subarray(head * n, (head + 1) * n), (q) => q / 65535);
  }

  /** Mean mass that a token of the window gets from the rows that see it. */
  received(head, row) {
    return this.shares("received", this.raw.received.rows)[head * numRows + row] / 65535;
  }

  receivers(head) {
    const { top, top_shares: shares } = this.raw.received;
    const width = this.raw.top.place_bytes;
    const keys = this.open("receivers", () => numbersOf(top, width));
    const masses = this.shares("receiver shares", shares);
    const count = keys.length / numHeads;
    const none = 256 ** width - 1;
    const found = [];
    for (let i = head * count; i < (head + 1) * count; i++) {
      if (keys[i] !== none && masses[i] > 0) found.push({ key: keys[i], share: masses[i] / 65535 });
    }
    return found;
  }

  score(name, head) {
    return this.scores[name][head];
  }

  /** Places in `data.roles`. */
  rolesOf(head) {
    return data.roles.map((_, bit) => bit).filter((bit) => this.roles[head] & (1 << bit));
  }
}

const readings = data.readings.map((raw) => new Reading(raw));

function labelOf(place) {
  const listed = data.labels.list[place - data.labels.start];
  return listed ?? data.labels.others[place] ?? `token ${place}`;
}

function isAside(place) {
  const kind = data.kinds[place - data.labels.start];
  return kind === "s" || kind === "a" || (data.model.causal && place === 0);
}

function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 0.0005) return "<0.1\u00a0%";
  return `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`;
}

function count(number) {
  return number.toLocaleString("en");
}
