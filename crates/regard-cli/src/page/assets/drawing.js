// Figures as lists of shapes, so that the page, the SVG and the PNG show the same. And elements, made without markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with text and children; nothing is ever parsed. */
function element(name, fields = {}, ...children) {
  const made = document.createElement(name);
  for (const [field, value] of Object.entries(fields)) {
    if (field === "class") made.className = value;
    else if (field in made && field !== "role") made[field] = value;
    else made.setAttribute(field, value);
  }
  made.append(...children);
  return made;
}

/** A token's text, which may run in any direction, kept to itself. */
const wordOf = (place) => element("bdi", {}, labelOf(place));

const byId = (id) => document.getElementById(id);

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "panel", "ink", "muted", "line", "edge", "a", "b", "soft-a", "soft-b"];
  const found = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  found.ramp = ["ramp-0", "ramp-1", "ramp-2", "ramp-3"].map((name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  return found;
}

let theme = colours();

/** From 0, nothing, to 1, everything. */
function rampColour(level) {
  const at = Math.min(Math.max(level, 0), 1) * (theme.ramp.length - 1);
  const low = Math.min(Math.floor(at), theme.ramp.length - 2);
  return theme.ramp[low].map((from, i) => Math.round(from + (theme.ramp[low + 1][i] - from) * (at - low)));
}

/** How strongly a mass is drawn: its root, or its logarithm from 10⁻⁴. */
const shadeLevel = (mass) => (state.log ? Math.max(0, Math.log10(Math.max(mass, 1e-9)) / 4 + 1) : Math.sqrt(mass));
/** How long or wide a mass is drawn: itself, or its logarithm from 10⁻⁴. */
const barLevel = (mass) => (state.log ? Math.max(0, Math.log10(Math.max(mass, 1e-9)) / 4 + 1) : mass);

/** Colours of the 256 quantised masses of thumbnails. */
function palette() {
  return Array.from({ length: 256 }, (_, q) => rampColour(shadeLevel((q / 255) ** 2)));
}

function paintThumbnail(canvas, shades, columns, colourOf) {
  const rows = shades.length / columns;
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  shades.forEach((q, i) => image.data.set([...colourOf[q], 255], i * 4));
  context.putImageData(image, 0, 0);
}

/** Of texts that are not the user's; figures on their own name the page's. */
const UI_FAMILY = "inherit";

class Drawing {
  constructor(width, height) {
    Object.assign(this, { width, height, shapes: [] });
  }

  rect(x, y, width, height, fill, stroke = "none", dash = "") {
    this.shapes.push({ kind: "rect", x, y, width, height, fill, stroke, dash });
  }

  path(d, stroke, width, dash = "") {
    this.shapes.push({ kind: "path", d, stroke, width, dash });
  }

  dot(x, y, radius, fill) {
    this.shapes.push({ kind: "dot", x, y, radius, fill });
  }

  text(x, y, text, { size = 12, fill = theme.ink, anchor = "start", weight = "400", family = UI_FAMILY } = {}) {
    this.shapes.push({ kind: "text", x, y, text, size, fill, anchor, weight, family });
  }

  add(other, dx, dy) {
    for (const shape of other.shapes) {
      this.shapes.push(shape.kind === "path" ? { ...shape, dx: (shape.dx ?? 0) + dx, dy: (shape.dy ?? 0) + dy } : { ...shape, x: shape.x + dx, y: shape.y + dy });
    }
  }

  /** An SVG element; the browser escapes what stands in it. */
  svg(label = "") {
    const make = (name, attributes, text) => {
      const made = document.createElementNS(SVG, name);
      for (const [attribute, value] of Object.entries(attributes)) if (value !== "") made.setAttribute(attribute, value);
      if (text !== undefined) made.textContent = text;
      return made;
    };
    const { width, height } = this;
    const root = make("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    if (label) {
      root.setAttribute("role", "img");
      root.setAttribute("aria-label", label);
    } else {
      root.setAttribute("aria-hidden", "true");
    }
    for (const s of this.shapes) {
      if (s.kind === "rect") root.append(make("rect", { x: s.x, y: s.y, width: s.width, height: s.height, fill: s.fill, stroke: s.stroke, "stroke-dasharray": s.dash }));
      if (s.kind === "path") root.append(make("path", { d: s.d, fill: "none", stroke: s.stroke, "stroke-width": s.width, "stroke-dasharray": s.dash, "stroke-linecap": "round", transform: s.dx || s.dy ? `translate(${s.dx} ${s.dy})` : "" }));
      if (s.kind === "dot") root.append(make("circle", { cx: s.x, cy: s.y, r: s.radius, fill: s.fill }));
      if (s.kind === "text") root.append(make("text", { x: s.x, y: s.y, "font-size": s.size, fill: s.fill, "text-anchor": s.anchor, "font-weight": s.weight, "font-family": s.family }, s.text));
    }
    return root;
  }

  canvas(scale) {
    const canvas = element("canvas", { width: Math.ceil(this.width * scale), height: Math.ceil(this.height * scale) });
    const context = canvas.getContext("2d");
    for (const s of this.shapes) {
      context.setTransform(scale, 0, 0, scale, (s.dx ?? 0) * scale, (s.dy ?? 0) * scale);
      context.setLineDash(s.dash ? s.dash.split(" ").map(Number) : []);
      context.fillStyle = s.fill ?? "transparent";
      context.strokeStyle = s.stroke ?? "transparent";
      context.lineWidth = s.kind === "path" ? s.width : 1;
      context.lineCap = "round";
      if (s.kind === "rect" && s.fill !== "none") context.fillRect(s.x, s.y, s.width, s.height);
      if (s.kind === "rect" && s.stroke !== "none") context.strokeRect(s.x, s.y, s.width, s.height);
      if (s.kind === "path") context.stroke(new Path2D(s.d));
      if (s.kind === "dot") {
        context.beginPath();
        context.arc(s.x, s.y, s.radius, 0, 2 * Math.PI);
        context.fill();
      }
      if (s.kind === "text") {
        context.font = `${s.weight} ${s.size}px ${s.family}`;
        context.textAlign = { start: "left", middle: "center", end: "right" }[s.anchor];
        context.fillText(s.text, s.x, s.y);
      }
    }
    return canvas;
  }
}
