// The view as a figure or as numbers, with a caption that says what it is.

function captionLines() {
  const reading = currentReading();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0).map((head) => headNames[head]);
  const readingSays = [reading.noSink ? "special tokens and the first one left out, the rest divided by its sum" : "all keys", reading.norm ? "weighted by norms of values" : "probabilities", state.log ? "logarithmic scale" : "linear scale"];
  return [
    `${data.model.name} (weights sha256 ${data.model.sha256.slice(0, 12)}), text sha256 ${data.text_sha256}, ${count(data.units)} ${data.unit}s; ${heads.join(" beside ")}`,
    `${readingSays.join("; ")}. Made with regard ${data.regard_version}.`,
    "Attention shows where a head reads, not why.",
  ];
}

function figure() {
  const box = byId("words");
  const margin = 24;
  const width = Math.max(box.scrollWidth, 640) + 2 * margin;
  const family = getComputedStyle(document.body).fontFamily;
  const lines = lineDrawing();
  const textTop = 84;
  const belowText = textTop + lines.height + 16;
  const notes = [byId("row-note").textContent, ...captionLines()].flatMap((line) => wrapped(line, Math.floor((width - 2 * margin) / 6)));
  const height = belowText + 220 + notes.length * 16 + margin;
  const drawing = new Drawing(width, height);
  drawing.rect(0, 0, width, height, theme.panel);
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  heads.forEach((head, which) => drawing.text(margin + which * 130, 40, headNames[head], { size: 22, weight: "600", fill: which === 0 ? theme.a : theme.b }));
  drawing.text(margin, 62, heads.map((head) => (heads.length > 1 ? `${headNames[head]} ` : "") + summaryOf(head)).join("; ").slice(0, 140), { size: 12, fill: theme.muted });
  drawing.add(lines, margin, textTop);
  const row = currentRow();
  words.forEach((word, at) => {
    const [x, y] = [margin + word.offsetLeft, textTop + word.offsetTop];
    if (at === row) drawing.rect(x, y, word.offsetWidth, word.offsetHeight, theme.ink);
    const { fontFamily, fontSize, color } = getComputedStyle(word);
    drawing.text(x + word.offsetWidth / 2, y + word.offsetHeight * 0.68, labelOf(rowStart + at), { size: parseFloat(fontSize), anchor: "middle", family: fontFamily, fill: color });
  });
  heads.forEach((head, which) => drawing.add(mapDrawing(head, 170), margin + which * 186, belowText + 24));
  const used = heads.length * 186;
  drawing.text(margin, belowText + 14, "rows look at columns", { size: 11, fill: theme.muted });
  const distance = distanceDrawing(Math.min(width - 2 * margin - used, 460));
  drawing.text(margin + used + 34, belowText + 14, "mass by distance", { size: 11, fill: theme.muted });
  drawing.add(distance, margin + used, belowText + 34);
  notes.forEach((note, i) => drawing.text(margin, belowText + 222 + i * 16, note, { size: 11, fill: theme.muted }));
  for (const shape of drawing.shapes) if (shape.family === UI_FAMILY) shape.family = family;
  return drawing;
}

function wrapped(line, most) {
  const lines = [""];
  for (const word of line.split(" ")) {
    if (lines.at(-1).length + word.length + 1 > most && lines.at(-1) !== "") lines.push("");
    lines[lines.length - 1] += (lines.at(-1) === "" ? "" : " ") + word;
  }
  return lines;
}

function mapDrawing(head, size) {
  const { rows, columns } = currentReading().raw.thumbnail;
  const shades = currentReading().thumbnail(head);
  const colourOf = palette();
  const drawing = new Drawing(size, size);
  const [w, h] = [size / columns, size / rows];
  drawing.rect(0, 0, size, size, `rgb(${colourOf[0].join(" ")})`);
  shades.forEach((q, i) => {
    if (q > 0) drawing.rect((i % columns) * w, Math.floor(i / columns) * h, w + 0.3, h + 0.3, `rgb(${colourOf[q].join(" ")})`);
  });
  drawing.rect(0, 0, size, size, "none", theme.edge);
  return drawing;
}

/** The numbers behind the view, opened. */
function numbers() {
  const reading = currentReading();
  const heads = [currentHead(), comparedHead()].filter((head) => head >= 0);
  return {
    schema: "regard-page-view/1",
    caption: captionLines(),
    model: data.model,
    text_sha256: data.text_sha256,
    unit: data.unit,
    no_sink: reading.noSink,
    norm: reading.norm,
    verify: data.verify,
    heads: heads.map((head) => ({
      layer: data.heads[head][0],
      head: data.heads[head][1],
      roles: reading.rolesOf(head).map((bit) => data.roles[bit].name),
      scores: Object.fromEntries(Object.keys(reading.scores).map((name) => [name, reading.score(name, head)])),
      distance: reading.distance(head),
      rows: Array.from({ length: numRows }, (_, row) => ({
        query: rowStart + row,
        query_token: labelOf(rowStart + row),
        top: reading.top(head, row).map(({ key, prob }) => ({ key, token: labelOf(key), prob: Number(prob.toFixed(6)) })),
      })),
    })),
  };
}

function save(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  tell(`${name} saved`);
}

function fileName(ending) {
  const model = data.model.name.replace(/[^A-Za-z0-9]+/g, "-").slice(-40);
  return `regard-${model}-${headNames[currentHead()]}.${ending}`;
}

function exportSvg() {
  const text = new XMLSerializer().serializeToString(figure().svg(captionLines()[0]));
  save(fileName("svg"), new Blob([text], { type: "image/svg+xml" }));
}

function exportPng() {
  const drawing = figure();
  // Twice as fine as the page, unless no browser has such a canvas.
  const scale = Math.min(2, 8000 / drawing.height, 8000 / drawing.width);
  drawing.canvas(scale).toBlob((blob) => blob && save(fileName("png"), blob), "image/png");
}

function exportJson() {
  save(fileName("json"), new Blob([JSON.stringify(numbers(), null, 1)], { type: "application/json" }));
}
