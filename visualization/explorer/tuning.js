// Fine-tuning by pointing: marks, flips, what they cost, and the files and words that fine_tuning.py reads.

// The positions of the pixels of a scene that are marked, each once, in order; `draft` is a mark that is being made.
function pixelsMarked(of, draft) {
  const all = draft ? [...marks(), draft] : marks();
  if (of.markedBy !== all) {
    of.markedBy = all;
    of.marked = findMarked(of, all.filter((mark) => mark.scene === of.index));
  }
  return of.marked;
}

function findMarked(of, ours) {
  const pixels = [];
  if (!ours.length) return pixels;
  const found = new Uint8Array(of.rows * of.columns);
  for (const mark of ours) {
    for (const [r0, c0, r1, c1] of mark.box ? [mark.box] : discs(mark)) {
      const [top, bottom] = [Math.max(0, Math.min(r0, r1)), Math.min(of.rows - 1, Math.max(r0, r1))];
      const [left, right] = [Math.max(0, Math.min(c0, c1)), Math.min(of.columns - 1, Math.max(c0, c1))];
      for (let row = top; row <= bottom; row++)
        found.fill(1, row * of.columns + left, row * of.columns + right + 1);
    }
  }
  for (let i = found.indexOf(1); i >= 0 && i < found.length; i++) {
    if (found[i] && of.neurons[i] !== NO_NEURON) pixels.push(i);
  }
  return pixels;
}

// A brush's stroke as boxes: the rows of the disc at each place of its path, and of the places between them.
function* discs({radius, path}) {
  for (let i = 0; i < path.length; i += 2) {
    const [row, column] = [path[i], path[i + 1]],
      before = i ? [path[i - 2], path[i - 1]] : [row, column];
    const steps = Math.max(1, Math.abs(row - before[0]), Math.abs(column - before[1]));
    for (let step = i ? 1 : steps; step <= steps; step++) {
      const at = [0, 1].map((k) => Math.round(before[k] + ([row, column][k] - before[k]) * (step / steps)));
      for (let down = -radius; down <= radius; down++) {
        const half = Math.floor(Math.sqrt(radius * radius - down * down));
        yield [at[0] + down, at[1] - half, at[0] + down, at[1] + half];
      }
    }
  }
}

// How many marked pixels fall on each neuron, in all scenes that are unpacked (those with marks are).
const markedCounts = sinceLastAct(() => {
  const counts = new Map();
  for (const each of unpacked) {
    for (const pixel of pixelsMarked(each)) {
      const neuron = each.neurons[pixel];
      counts.set(neuron, (counts.get(neuron) ?? 0) + 1);
    }
  }
  return counts;
});

// The cloud neurons, not flipped, that as many marked pixels fall on as say enough.
const likely = () =>
  [...markedCounts()]
    .filter(([neuron, n]) => n >= 5 && MAP.cloud[neuron] && !flipped().has(neuron))
    .map(([neuron]) => neuron);

function flip(neurons) {
  if (MAP.voters) return say("Maps that vote are not flipped here; fine-tune one in its own run.");
  const cloud = neurons.filter((neuron) => neuron >= 0 && MAP.cloud[neuron]);
  if (cloud.length) act({neurons: cloud});
  else say("Only cloud neurons can be flipped.");
}

// What flipping neurons costs and gains: training spectra lost by class, and pixels of scenes that turn clear.
function priceOf(neurons, scenes) {
  const lost = CLASSES.map((each, i) =>
    each.cloud && MAP.votes ? sum(neurons.map((n) => MAP.votes[n][i])) : 0,
  );
  const total = (name) => sum(scenes.flatMap((each) => neurons.map((neuron) => each[name][neuron])));
  return {
    lost,
    share: MAP.votes ? sum(lost) / Math.max(1, sum(cloudVotes)) : 0,
    pixels: total("pixels"),
    falseAlarms: total("clear"),
    clouds: total("clouds"),
  };
}

const number = (value) => value.toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(share < 0.001 ? 3 : 2)} %`;

function priceInWords(neuron) {
  const here = priceOf([neuron], [START.scenes[state.scene]]),
    all = priceOf([neuron], START.scenes);
  const pixels = (price) =>
    `${number(price.pixels)} pixels (${number(price.falseAlarms)} false alarms gone, ${number(price.clouds)} clouds lost)`;
  const spectra = CLASSES.map(({name, cloud}, i) => cloud && `${number(here.lost[i])} ${name}`)
    .filter(Boolean)
    .join(" and ");
  return (
    `Flipping it would lose ${spectra} training spectra (${percent(here.share)} of the training clouds), and turn clear ` +
    `${pixels(here)} here, ${pixels(all)} in all scenes.`
  );
}

function drawTuning() {
  const counts = [...markedCounts()].filter(([neuron]) => MAP.cloud[neuron]).sort((a, b) => b[1] - a[1]);
  const clear = markedCounts().size - counts.length;
  const now = [...flipped()].sort((a, b) => a - b),
    total = sum(markedCounts().values());
  const places = counts.slice(0, 12).map(([neuron, n]) => `${placeOf(neuron)} ${number(n)}`);
  if (counts.length > 12) places.push("...");
  byId("marked").textContent = total
    ? `${number(total)} marked pixels with data; ${number(sum(counts.map(([, n]) => n)))} of them fall on ` +
      `${counts.length} cloud neurons: ${places.join(", ")}` +
      (clear ? `; the others on ${clear} clear neurons.` : ".")
    : "Nothing is marked.";
  drawPrices(now);
  byId("flips").hidden = byId("flip-marked").hidden = Boolean(MAP.voters);
  const can = {
    undo: state.done,
    redo: state.done < state.actions.length,
    wipe: marks().length,
    "flip-marked": likely().length,
    "save-csv": total,
    "save-geojson": total && geoScenes().length,
    copy: now.length || total,
  };
  for (const id in can) byId(id).disabled = !can[id];
  byId("command").textContent = command(now, total > 0);
}

function drawPrices(now) {
  const line = (name, neurons) => {
    const prices = [[START.scenes[state.scene]], START.scenes].map((scenes) => priceOf(neurons, scenes));
    const cells = [
      ...prices[0].lost.filter((_, i) => CLASSES[i].cloud).map((n) => (MAP.votes ? number(n) : "?")),
      percent(prices[0].share),
      ...prices.flatMap(({pixels, falseAlarms, clouds}) => [pixels, falseAlarms, clouds].map(number)),
    ];
    return `<tr><th scope="row">${name}</th>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  };
  byId("prices").innerHTML =
    now.map((neuron) => line(placeOf(neuron), [neuron])).join("") + line(`all ${now.length}`, now);
}

// --- saving -----------------------------------------------------------------------------------------------------------

const quoted = (text) => (/^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function command(now, marked) {
  if (!now.length && !marked) return "";
  const words = ["python fine_tuning.py --DATA_DIR", quoted(START.dataDir)];
  words.push("--PIXELS tiff --FROM_REFERENCE False");
  words.push(marked ? "--SAMPLE_CSVS marked_samples.csv" : "--METHOD flip");
  if (now.length) words.push("--FLIP_NEURONS", ...now.map(wordOf));
  return words.join(" ");
}

function samplesCsv() {
  const lines = ["product,row,column"];
  for (const each of unpacked) {
    for (const pixel of pixelsMarked(each)) {
      lines.push([each.name, ...rowColumn(pixel, each.columns).map((at) => at * each.step)].join());
    }
  }
  return `${lines.join("\n")}\n`;
}

const geoScenes = () => [...unpacked].filter((each) => each.epsg && pixelsMarked(each).length);

// The marks as GeoJSON, one feature a scene, in the system of the first: rectangles whose edges are those of pixels.
function geoJson() {
  const scenes = geoScenes().filter((each, _, [first]) => each.epsg === first.epsg);
  const features = scenes.map((each) => ({
    type: "Feature",
    properties: {product: each.name},
    geometry: {type: "MultiPolygon", coordinates: rectangles(each).map((box) => [corners(each, box)])},
  }));
  const crs = {type: "name", properties: {name: `urn:ogc:def:crs:EPSG::${scenes[0].epsg}`}};
  return JSON.stringify({type: "FeatureCollection", name: "marked_ground", crs, features});
}

// The marked pixels as rectangles [top, left, bottom, right]: runs of a row, joined to an equal one above.
function rectangles(each) {
  const found = [],
    open = new Map();
  for (const pixel of pixelsMarked(each)) {
    const [row, column] = rowColumn(pixel, each.columns),
      last = found.at(-1);
    if (last && last[0] === row && last[3] === column) last[3]++;
    else found.push([row, column, row + 1, column + 1]);
  }
  return found.filter((box) => {
    const key = `${box[1]} ${box[3]}`,
      above = open.get(key);
    if (above && above[2] === box[0]) above[2] = box[2];
    else open.set(key, box);
    return open.get(key) === box;
  });
}

function corners(each, [top, left, bottom, right]) {
  const [x, dx, skewX, y, skewY, dy] = each.transform,
    place = (row, column) => {
      const [r, c] = [row * each.step, column * each.step];
      return [x + c * dx + r * skewX, y + c * skewY + r * dy];
    };
  return [place(top, left), place(bottom, left), place(bottom, right), place(top, right), place(top, left)];
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${name} is saved where this browser puts downloads; move it into ${START.dataDir}.`);
}
