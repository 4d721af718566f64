// The map: neurons as cells in the colours of a plane, with what is known of them drawn on top.
const mapCanvas = byId("map");
const fixed = (values) => ({values: () => values});

// What the cells can be coloured by: numbers of each neuron, or (class, cloud or clear) a colour.
const PLANES = {
  "cloud or clear": {colour: (neuron) => (isCloud(neuron) ? START.colours.cloud : START.colours.clear)},
  class: {colour: (neuron) => classOf(neuron)?.colour ?? START.colours.missing},
  "pixels of this scene": {values: () => START.scenes[state.scene].pixels},
  "false alarms of this scene": {
    values: () => START.scenes[state.scene].clear.map((n, i) => (MAP.cloud[i] ? n : 0)),
  },
  ...(MAP.tuned && {"bright samples": fixed(MAP.tuned.samples)}),
  ...(MAP.votes && {
    "training spectra": fixed(MAP.votes.map(sum)),
    ...Object.fromEntries(
      CLASSES.map(({name}, i) => [`training spectra: ${name}`, fixed(MAP.votes.map((votes) => votes[i]))]),
    ),
  }),
  "U-matrix": fixed(MAP.uMatrix),
  ...Object.fromEntries(
    BANDS.map((band, i) => [band, fixed(MAP.classes.map((_, neuron) => reflectanceOf(neuron)[i]))]),
  ),
};

const isCloud = (neuron) => MAP.cloud[neuron] && !flipped().has(neuron);
const isSplit = (neuron) => neuron in MAP.subMaps;
const wasFlipped = (neuron) => MAP.tuned?.action[neuron] === "flipped";

function ends(values) {
  const positive = values.filter((value) => value > 0);
  const least = state.scale === "log" ? Math.min(...positive) : Math.min(0, ...values);
  return [positive.length || state.scale !== "log" ? least : 0, Math.max(...values)];
}

// Where a value stands between the ends, 0 to 1; below 0 for what a logarithm does not have.
function along(value, [least, most]) {
  if (state.scale === "log") {
    return value > 0 ? (most > least ? Math.log(value / least) / Math.log(most / least) : 1) : -1;
  }
  return most > least ? (value - least) / (most - least) : 0;
}

const shade = (at) =>
  at < 0 ? START.colours.missing : START.shades[Math.round(at * (START.shades.length - 1))];

function cellSize() {
  return mapCanvas.clientWidth / MAP.columns;
}

function drawMap(marked) {
  const plane = PLANES[state.plane],
    cell = cellSize();
  const values = plane.values?.(),
    range = values && ends(values),
    now = flipped();
  mapCanvas.width = Math.round(mapCanvas.clientWidth * dots());
  mapCanvas.height = Math.round(cell * MAP.rows * dots());
  const pen = mapCanvas.getContext("2d");
  pen.scale(dots(), dots());
  pen.font = `${Math.min(12, cell * 0.5)}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (let neuron = 0; neuron < N_NEURONS; neuron++) {
    const [y, x] = rowColumn(neuron, MAP.columns).map((at) => at * cell);
    pen.fillStyle = values ? shade(along(values[neuron], range)) : plane.colour(neuron);
    pen.fillRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
    if (state.plane === "class") write(pen, classOf(neuron)?.letter ?? "x", x + cell / 2, y + cell / 2);
    if (isSplit(neuron)) hatch(pen, x, y, cell);
    if (wasFlipped(neuron)) frame(pen, x, y, cell, [3, 2]);
    if (now.has(neuron)) frame(pen, x, y, cell, []);
    const rank = MAP.suggestions[neuron]?.rank;
    if (rank <= 15 && state.plane !== "class") write(pen, rank, x + cell / 2, y + cell / 2);
    if (marked.has(neuron)) dot(pen, x + cell * 0.78, y + cell * 0.22, cell * 0.14);
  }
  if (state.neuron >= 0) {
    const [y, x] = rowColumn(state.neuron, MAP.columns).map((at) => at * cell);
    strokeTwice(pen, ["#000", 5], ["#ffd400", 2.5], () => pen.strokeRect(x, y, cell, cell));
  }
}

// A line that is seen on any ground: a wide one below, a narrow one of another colour on it.
function strokeTwice(pen, below, above, stroke) {
  for (const [strokeStyle, lineWidth] of [below, above]) {
    Object.assign(pen, {strokeStyle, lineWidth});
    stroke();
  }
}

function write(pen, text, x, y) {
  Object.assign(pen, {lineWidth: 2.5, strokeStyle: "#fff", fillStyle: "#000", lineJoin: "round"});
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

function hatch(pen, x, y, cell) {
  Object.assign(pen, {strokeStyle: "#000", lineWidth: 1});
  pen.beginPath();
  for (const at of [0.35, 0.7, 1]) {
    pen.moveTo(x + 1, y + cell * at - 1);
    pen.lineTo(x + cell * at - 1, y + 1);
  }
  pen.stroke();
}

function frame(pen, x, y, cell, dash) {
  pen.setLineDash(dash);
  const stroke = () => pen.strokeRect(x + 3, y + 3, cell - 6, cell - 6);
  strokeTwice(pen, ["#fff", 4], [START.colours.bright, 2], stroke);
  pen.setLineDash([]);
}

function dot(pen, x, y, radius) {
  Object.assign(pen, {fillStyle: "#00e5ff", strokeStyle: "#000", lineWidth: 1});
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
  pen.stroke();
}

function mapLegend() {
  const plane = PLANES[state.plane],
    entry = (colour, text) => `<li><i style="background:${colour}"></i>${text}</li>`;
  const count = (test) => MAP.classes.reduce((n, _, neuron) => n + Boolean(test(neuron)), 0);
  let entries;
  if (plane.values) {
    const range = ends(plane.values()),
      middle = state.scale === "log" ? Math.sqrt(range[0] * range[1]) : (range[0] + range[1]) / 2;
    const scale = `linear-gradient(to right, ${START.shades.join()})`;
    entries = `<li class="scale"><i style="background:${scale}"></i><span>${[range[0], middle, range[1]]
      .map((value) => `<b>${short(value)}</b>`)
      .join("")}</span></li>`;
    if (state.scale === "log") entries += entry(START.colours.missing, "none");
  } else if (state.plane === "class") {
    entries = CLASSES.map(({code, name, colour, letter: sign}) =>
      entry(colour, `${sign} ${name} (${count((neuron) => MAP.classes[neuron] === code)})`),
    ).join("");
  } else {
    entries =
      entry(START.colours.cloud, `cloud (${count(isCloud)})`) +
      entry(START.colours.clear, `clear (${count((neuron) => !isCloud(neuron))})`);
  }
  const extra = [
    [flipped().size, "red frame: flipped by you"],
    [count(wasFlipped), "dashed frame: flipped by fine-tuning"],
    [count(isSplit), "hatched: split by a sub-map"],
    [Object.keys(MAP.suggestions).length && state.plane !== "class", "number: rank among the suggestions"],
    [markedCounts().size, "blue dot: your marks fall on it"],
  ]
    .filter(([there]) => there)
    .map(([, text]) => `<li>${text}</li>`)
    .join("");
  byId("map-legend").innerHTML = entries + extra;
}

const short = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : value.toPrecision(3));

function neuronAt(event) {
  const box = mapCanvas.getBoundingClientRect(),
    cell = cellSize();
  const row = Math.floor((event.clientY - box.top) / cell),
    column = Math.floor((event.clientX - box.left) / cell);
  return row >= 0 && row < MAP.rows && column >= 0 && column < MAP.columns ? row * MAP.columns + column : -1;
}

// Rows and columns that the arrow keys go.
const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};

// Where an arrow key leads from an element of an image or map, `far` elements away: row and column.
function neighbour(key, index, {rows, columns}, far = 1) {
  const [row, column] = rowColumn(index, columns),
    [down, right] = ARROWS[key];
  return [clamp(row + far * down, 0, rows - 1), clamp(column + far * right, 0, columns - 1)];
}

function mapKey(event) {
  if (event.key in ARROWS) {
    const [row, column] = neighbour(event.key, Math.max(0, state.neuron), MAP);
    change({neuron: row * MAP.columns + column, pixel: -1, pinned: true});
    sayWhere();
  } else if (event.key === "f") flip([state.neuron]);
  else return;
  event.preventDefault();
}
