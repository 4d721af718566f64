// The page: what happens when something is pointed at, chosen or pressed.
let waiting = false,
  shown = {}; // what was drawn last

// Set some of the state; what depends on it is drawn with the next frame.
function change(news) {
  Object.assign(state, news);
  redraw();
}

function redraw() {
  if (!waiting) requestAnimationFrame(draw);
  waiting = true;
}

function say(text) {
  byId("said").textContent = text;
}

const differs = (...names) => names.some((name) => state[name] !== shown[name]);

function draw() {
  waiting = false;
  if (!scene) return;
  const grain = Math.round(1 / (zoom() * dots()));
  const acted = differs("actions", "done", "scene");
  if (acted || differs("mask", "style") || (grain !== shown.grain && state.style === "outline")) paintMask();
  if (differs("neuron", "scene") || grain !== shown.grain) paintLit();
  if (acted) paintMarks();
  drawScene();
  if (acted || differs("neuron", "plane", "scale")) drawMap(new Set(markedCounts().keys()));
  if (acted || differs("plane", "scale")) mapLegend();
  if (acted || differs("neuron", "pixel")) {
    const near = state.pixel < 0 ? null : spectrumNear(scene, ...rowColumn(state.pixel, scene.columns));
    drawSpectra(near);
    byId("neuron-text").innerHTML =
      state.neuron < 0 ? "Point at a neuron or a pixel." : neuronInWords(state.neuron);
    byId("pixel-text").textContent = state.pixel < 0 ? "" : pixelInWords(near);
    byId("flip").disabled = !(state.neuron >= 0 && MAP.cloud[state.neuron]) || MAP.voters > 0;
    byId("flip").textContent = flipped().has(state.neuron) ? "Flip back (F)" : "Flip (F)";
  }
  if (acted) drawTuning();
  for (const name of ["point", "box", "brush"]) byId(name).setAttribute("aria-pressed", state.tool === name);
  shown = {...state, grain};
  keepAddress();
}

let kept;
function keepAddress() {
  clearTimeout(kept);
  kept = setTimeout(() => history.replaceState(null, "", address()), 250);
}

// What a screen reader says of what the keyboard points at.
function sayWhere() {
  const {neuron, pixel} = state,
    where = neuron < 0 ? "no data" : `neuron ${placeOf(neuron)}, ${labelsOf(neuron)}`;
  if (pixel < 0) return say(where);
  const [row, column] = placeInImage(pixel);
  say(`Row ${row}, column ${column}: ${where}`);
}

// Row and column of a pixel in the image, from 0.
const placeInImage = (pixel) => rowColumn(pixel, scene.columns).map((at) => at * scene.step);
const cloudOrClear = (is) => (is ? "cloud" : "clear");
const labelsOf = (neuron) => `${classOf(neuron)?.name ?? "never hit"}, ${cloudOrClear(isCloud(neuron))}`;

function neuronInWords(neuron) {
  const lines = [
    `<strong>Neuron ${placeOf(neuron)}</strong>: ${labelsOf(neuron)}` +
      `${flipped().has(neuron) ? " (flipped by you)" : ""}; ${number(START.scenes[state.scene].pixels[neuron])} pixels of this scene.`,
  ];
  if (MAP.votes) {
    const votes = MAP.votes[neuron],
      there = CLASSES.map(({name}, i) => [votes[i], name]).filter(([n]) => n);
    const words = there.sort((a, b) => b[0] - a[0]).map(([n, name]) => `${number(n)} ${name}`);
    lines.push(`Votes of ${number(sum(votes))} training spectra: ${words.join(", ") || "none"}.`);
  }
  if (MAP.tuned && (MAP.tuned.samples[neuron] || MAP.tuned.action[neuron] !== "kept")) {
    lines.push(
      `Fine-tuning: ${safe(MAP.tuned.action[neuron])}; ${safe(MAP.tuned.reason[neuron]) || `${MAP.tuned.samples[neuron]} bright samples`}.`,
    );
  }
  const suggestion = MAP.suggestions[neuron],
    subMap = MAP.subMaps[neuron];
  if (suggestion)
    lines.push(
      `Suggestion ${suggestion.rank}, score ${suggestion.score.toFixed(3)}: ${suggestion.reasons.join("; ")}.`,
    );
  if (MAP.cloud[neuron] && !flipped().has(neuron) && !MAP.voters) lines.push(priceInWords(neuron));
  if (subMap)
    lines.push(
      `Its sub-map has ${subMap.size} x ${subMap.size} sub-neurons, ${sum(subMap.cloud)} of them cloud:${drawSubMap(neuron, subMap)}`,
    );
  return lines.map((line) => `<p>${line}</p>`).join("");
}

// Text of a file as text of the page.
const safe = (text) => text.replace(/[&<>]/g, (letter) => `&#${letter.charCodeAt(0)};`);

// A sub-map as a small picture: cloud and clear cells, the pixel's sub-neuron framed.
function drawSubMap(neuron, {size, cloud}) {
  const cell = ([y, x], look) => `<rect x="${x}" y="${y}" width="1" height="1" ${look}/>`,
    cells = cloud.map((is, i) => cell(rowColumn(i, size), `fill="${START.colours[cloudOrClear(is)]}"`)),
    own = subNeuron();
  if (own) cells.push(cell(own, 'fill="none" stroke="#ffd400" stroke-width=".28"'));
  return `<svg class="sub-map" viewBox="-.2 -.2 ${size + 0.4} ${size + 0.4}" role="img" aria-label="sub-map of neuron ${placeOf(neuron)}">${cells.join("")}</svg>`;
}

// Row and column of the pixel's sub-neuron, counted from 0; null where its neuron has no sub-map.
function subNeuron() {
  const [row, column] = scene.rest.subarray(4 * Math.max(0, state.pixel));
  return state.pixel < 0 || row === NONE ? null : [row, column];
}

function pixelInWords(near) {
  const [row, column] = placeInImage(state.pixel);
  const bits = scene.rest[4 * state.pixel + 2],
    words = [`Pixel at row ${row}, column ${column} (from 0).`];
  if (state.neuron < 0) return `${words[0]} It has no data.`;
  if (near) {
    const same = near.row === row && near.column === column,
      nearest = `, of the nearest pixel whose spectrum is in the page: row ${near.row}, column ${near.column}`;
    const off = distance(near.values, state.neuron).toFixed(4);
    words.push(`Distance ${off} scaled units${same ? "" : nearest}.`);
  }
  if (scene.votes) words.push(`${scene.votes[4 * state.pixel]} of ${MAP.voters} maps say cloud.`);
  const own = subNeuron();
  if (own) {
    const {size, cloud} = MAP.subMaps[state.neuron];
    const label = cloudOrClear(cloud[own[0] * size + own[1]]);
    words.push(`Sub-neuron (${own[0] + 1}, ${own[1] + 1}), ${label}.`);
  }
  const says = [
    ["tuned", "fine-tuned labels", scene.tuned],
    ["final", "final mask", scene.final],
  ]
    .filter(([, , there]) => there)
    .map(([bit, name]) => `${name}: ${cloudOrClear(bits & BITS[bit])}`);
  if (says.length) words.push(`${says.join("; ")}.`);
  if (scene.reference)
    words.push(`Reference: ${bits & BITS.cloud ? "cloud" : bits & BITS.clear ? "clear" : "says nothing"}.`);
  return words.join(" ");
}

async function show(index) {
  byId("scene").selectedIndex = index;
  scene = await load(index);
  const reduced = scene.width > scene.pictures["true colour"].width;
  byId("scene-note").textContent =
    `${number(scene.width)} x ${number(scene.height)} pixels` +
    (reduced ? "; the picture is shown reduced" : "") +
    (scene.step > 1
      ? `; one row and column in ${scene.step} can be pointed at and marked, the other counts are of all pixels.`
      : "; counts are those of all pixels.");
  const there = {now: !MAP.voters, tuned: scene.tuned, final: scene.final, cloud: scene.reference, none: true};
  for (const option of byId("mask").options) option.hidden = option.disabled = !there[option.value];
  change({scene: index});
}

async function start() {
  const choices = {scene: START.scenes.map(({name}) => name), plane: Object.keys(PLANES)};
  for (const id in choices) byId(id).replaceChildren(...choices[id].map((name) => new Option(name)));
  byId("map-name").textContent = MAP.name;
  if (MAP.voters) state.mask = "tuned";
  Object.assign(state, fromAddress());
  for (const name of SHARED) byId(name).value = state[name];
  for (const each of new Set(marks().map((mark) => mark.scene))) await load(each);
  await show(state.scene);
  if (state.pixel >= 0 && state.pixel < scene.neurons.length) {
    pointAtPixel(...rowColumn(state.pixel, scene.columns), true);
  }
  byId("page").setAttribute("aria-busy", "false");
  performance.mark("ready");
}

for (const name of SHARED)
  byId(name).addEventListener("change", (event) => change({[name]: event.target.value}));
byId("scene").addEventListener("change", (event) => {
  Object.assign(state, {view: null, pixel: -1});
  show(event.target.selectedIndex);
});
byId("radius").addEventListener("input", (event) => {
  state.radius = Number(event.target.value);
});
const BUTTONS = {
  nearer: () => zoomMiddle(1.5),
  farther: () => zoomMiddle(1 / 1.5),
  whole: () => change({view: null}),
  undo,
  redo,
  wipe: () => act({wipe: true}),
  flip: () => flip([state.neuron]),
  "flip-marked": () => flip(likely()),
  "save-csv": () => save("marked_samples.csv", "text/csv", samplesCsv()),
  "save-geojson": () => save("marked_ground.geojson", "application/geo+json", geoJson()),
  copy: () =>
    navigator.clipboard.writeText(byId("command").textContent).then(
      () => say("The command is copied."),
      () => say("This browser does not let the page copy; select the command instead."),
    ),
};
for (const tool of ["point", "box", "brush"]) BUTTONS[tool] = () => change({tool});
for (const id in BUTTONS) byId(id).addEventListener("click", BUTTONS[id]);
byId("numbers").addEventListener("toggle", () => {
  shown = {...shown, pixel: undefined};
  redraw();
});
mapCanvas.addEventListener("pointermove", (event) => {
  const neuron = neuronAt(event);
  if (neuron >= 0 && !state.pinned && event.pointerType === "mouse") change({neuron, pixel: -1});
});
mapCanvas.addEventListener("click", (event) => {
  const neuron = neuronAt(event);
  if (neuron >= 0)
    change({neuron, pixel: -1, pinned: !(state.pinned && state.neuron === neuron && state.pixel < 0)});
});
mapCanvas.addEventListener("keydown", mapKey);
sceneCanvas.addEventListener("pointerdown", sceneDown);
sceneCanvas.addEventListener("pointermove", (event) => scene && sceneMove(event));
sceneCanvas.addEventListener("pointerup", sceneUp);
sceneCanvas.addEventListener("pointercancel", (event) => {
  fingers.delete(event.pointerId);
  pressed = null;
});
sceneCanvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  },
  {passive: false},
);
sceneCanvas.addEventListener("keydown", sceneKey);
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (event.key === "Escape") {
    pressed = null;
    change({pinned: false});
  } else if ((event.ctrlKey || event.metaKey) && key === "z" && !event.shiftKey) undo();
  else if ((event.ctrlKey || event.metaKey) && (key === "y" || (key === "z" && event.shiftKey))) redo();
});
new ResizeObserver(() => {
  shown = {...shown, scene: undefined};
  redraw();
}).observe(byId("page"));
start().catch((problem) => say(`This page does not work here: ${problem.message}`));
