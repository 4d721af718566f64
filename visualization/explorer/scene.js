// The scene: its picture, the mask, the pixels of the neuron pointed at, and the marks, each on a layer of its own.
const sceneCanvas = byId("scene-canvas");
const layers = {
  mask: document.createElement("canvas"),
  lit: document.createElement("canvas"),
  marks: document.createElement("canvas"),
};
let scene = null; // the one that is shown
let pressed = null; // what the pointer is doing: {row, column, x, y, moved}

// Colours as the numbers that stand for them in a canvas: alpha, blue, green, red.
const MASK = 0xffc800ff,
  VEIL = 0x60c800ff,
  LIT = 0xe000d4ff,
  MARK = 0x80ffe500,
  CLEARED = [0xffffffff, 0xffe05000];

const dots = () => window.devicePixelRatio || 1;

// Which pixels are cloud in the mask that is shown: 1 cloud, 0 clear or no data.
function cloudPixels() {
  const found = new Uint8Array(scene.neurons.length),
    {neurons, rest} = scene;
  if (state.mask === "now") {
    const cloud = Uint8Array.from({length: NO_NEURON + 1}, (_, neuron) =>
      neuron < N_NEURONS && isCloud(neuron) ? 1 : 0,
    );
    for (let i = 0; i < found.length; i++) found[i] = cloud[neurons[i]];
  } else if (state.mask !== "none") {
    const bit = BITS[state.mask];
    for (let i = 0; i < found.length; i++) found[i] = rest[4 * i + 2] & bit ? 1 : 0;
  }
  return found;
}

function paintMask() {
  const {columns, rows} = scene,
    cloud = cloudPixels(),
    thick = Math.max(1, Math.round(1 / (zoom() * dots())));
  const far = thick * columns,
    total = cloud.length;
  paint(layers.mask, columns, rows, (out) => {
    for (let row = 0, i = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, i++) {
        if (!cloud[i]) continue;
        const inner =
          state.style === "veil" ||
          ((column < thick || cloud[i - thick]) &&
            (column >= columns - thick || cloud[i + thick]) &&
            (i < far || cloud[i - far]) &&
            (i + far >= total || cloud[i + far]));
        out[i] = state.style === "veil" ? VEIL : inner ? 0 : MASK;
      }
    }
    if (state.mask !== "now") return;
    for (const neuron of flipped()) {
      for (const i of pixelsOn(scene, neuron)) out[i] = CLEARED[(i + Math.floor(i / columns)) & 1];
    }
  });
}

// Paint a layer anew: `fill` puts colours into its pixels, which are transparent.
function paint(canvas, width, height, fill) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d"),
    image = pen.createImageData(width, height);
  fill(new Uint32Array(image.data.buffer));
  pen.putImageData(image, 0, 0);
}

// The pixels of the neuron pointed at. Where several scene pixels share one of the screen, each still lights it up.
function paintLit() {
  const {columns, rows} = scene,
    block = Math.max(1, Math.floor(1 / (zoom() * dots()))),
    width = Math.ceil(columns / block);
  layers.lit.block = block;
  paint(layers.lit, width, Math.ceil(rows / block), (out) => {
    if (state.neuron < 0) return;
    for (const i of pixelsOn(scene, state.neuron)) {
      out[Math.floor(Math.floor(i / columns) / block) * width + Math.floor((i % columns) / block)] = LIT;
    }
  });
}

function paintMarks(draft) {
  paint(layers.marks, scene.columns, scene.rows, (out) => {
    for (const i of pixelsMarked(scene, draft)) out[i] = MARK;
  });
}

const viewed = () => state.view ?? fitting();
const zoom = () => viewed().zoom;

// The view that shows the whole scene: the pixel in the middle, and screen pixels a pixel.
function fitting() {
  const {clientWidth, clientHeight} = sceneCanvas;
  const most = Math.min(clientWidth / scene.columns, clientHeight / scene.rows);
  return {row: scene.rows / 2, column: scene.columns / 2, zoom: most};
}

function drawScene() {
  const {clientWidth: width, clientHeight: height} = sceneCanvas,
    view = viewed(),
    scale = view.zoom;
  const pixels = [Math.round(width * dots()), Math.round(height * dots())];
  if (sceneCanvas.width !== pixels[0] || sceneCanvas.height !== pixels[1])
    [sceneCanvas.width, sceneCanvas.height] = pixels;
  const pen = sceneCanvas.getContext("2d");
  pen.setTransform(dots(), 0, 0, dots(), 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.translate(width / 2 - view.column * scale, height / 2 - view.row * scale);
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = scale * dots() < 1;
  pen.drawImage(scene.pictures[state.picture], 0, 0, scene.width / scene.step, scene.height / scene.step);
  pen.drawImage(layers.mask, 0, 0);
  pen.drawImage(layers.marks, 0, 0);
  pen.imageSmoothingEnabled = false;
  const {lit} = layers;
  pen.drawImage(lit, 0, 0, lit.width * lit.block, lit.height * lit.block);
  if (state.pixel >= 0) crossHair(pen, scale);
  if (pressed?.box) frameOf(pen, pressed.box, scale);
  scaleBar(pen, width, height, scale);
}

function crossHair(pen, scale) {
  const [row, column] = rowColumn(state.pixel, scene.columns),
    [from, to] = [0.5 + 2 / scale, 0.5 + 11 / scale];
  strokeTwice(pen, ["#000", 4 / scale], ["#fff", 2 / scale], () => {
    pen.strokeRect(column - 1 / scale, row - 1 / scale, 1 + 2 / scale, 1 + 2 / scale);
    pen.beginPath();
    for (const [y, x] of Object.values(ARROWS)) {
      pen.moveTo(column + 0.5 + x * from, row + 0.5 + y * from);
      pen.lineTo(column + 0.5 + x * to, row + 0.5 + y * to);
    }
    pen.stroke();
  });
}

function frameOf(pen, [r0, c0, r1, c1], scale) {
  Object.assign(pen, {strokeStyle: "#00e5ff", lineWidth: 2 / scale});
  pen.strokeRect(Math.min(c0, c1), Math.min(r0, r1), Math.abs(c1 - c0) + 1, Math.abs(r1 - r0) + 1);
}

function scaleBar(pen, width, height, scale) {
  const metres = Math.abs(scene.transform[1]) * scene.step,
    target = (Math.min(width, 500) * 0.25 * metres) / scale;
  if (!scene.epsg || !(target > 0)) return;
  const power = 10 ** Math.floor(Math.log10(target)),
    length = power * [5, 2, 1].find((n) => n * power <= target);
  const bar = (length / metres) * scale,
    text = length >= 1000 ? `${length / 1000} km` : `${length} m`;
  pen.setTransform(dots(), 0, 0, dots(), 0, 0);
  pen.font = "13px system-ui, sans-serif";
  pen.fillStyle = "#000a";
  pen.fillRect(8, height - 36, Math.max(bar, pen.measureText(text).width) + 16, 28);
  pen.fillStyle = "#fff";
  pen.fillText(text, 16, height - 20);
  pen.fillRect(16, height - 15, bar, 3);
}

// --- pointing, marking, moving ---------------------------------------------------------------------------------------

// Row and column under a place of the screen, whole numbers where `inside` is asked for; null outside the scene then.
function under(x, y, inside = true) {
  const box = sceneCanvas.getBoundingClientRect(),
    view = viewed();
  const row = view.row + (y - box.top - box.height / 2) / view.zoom;
  const column = view.column + (x - box.left - box.width / 2) / view.zoom;
  if (!inside) return [row, column];
  const found = [Math.floor(row), Math.floor(column)];
  return found[0] >= 0 && found[0] < scene.rows && found[1] >= 0 && found[1] < scene.columns ? found : null;
}

function pointAtPixel(row, column, pinned = false) {
  const pixel = row * scene.columns + column,
    neuron = scene.neurons[pixel];
  change({pixel, neuron: neuron === NO_NEURON ? -1 : neuron, pinned});
}

// Zoom so that what lies under (x, y) stays there.
function zoomAt(factor, x, y) {
  const view = viewed(),
    [row, column] = under(x, y, false),
    least = fitting().zoom;
  const next = clamp(view.zoom * factor, least * 0.8, 40),
    share = view.zoom / next;
  change({
    view: {zoom: next, row: row + (view.row - row) * share, column: column + (view.column - column) * share},
  });
}

function zoomMiddle(factor) {
  const box = sceneCanvas.getBoundingClientRect();
  zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
}

const fingers = new Map(); // pointers that are down

function sceneDown(event) {
  sceneCanvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, event);
  const at = under(event.clientX, event.clientY);
  pressed = {at, x: event.clientX, y: event.clientY, view: viewed(), moved: false};
  if (fingers.size > 1 || !at) return;
  if (state.tool === "box") pressed.box = [...at, ...at];
  if (state.tool === "brush") pressed.path = [...at];
  if (pressed.path) paintMarks(draftMark());
  redraw();
}

function sceneMove(event) {
  if (fingers.has(event.pointerId) && fingers.size === 2) return pinch(event);
  const at = under(event.clientX, event.clientY);
  if (!pressed) {
    if (at && !state.pinned) pointAtPixel(...at);
    return;
  }
  pressed.moved ||= Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > 4;
  if (pressed.box && at) pressed.box.splice(2, 2, ...at);
  else if (pressed.path && at) {
    if (at[0] !== pressed.path.at(-2) || at[1] !== pressed.path.at(-1)) pressed.path.push(...at);
    paintMarks(draftMark());
  } else if (pressed.moved && state.tool === "point") {
    const {view, x, y} = pressed;
    const row = view.row - (event.clientY - y) / view.zoom,
      column = view.column - (event.clientX - x) / view.zoom;
    change({view: {...view, row, column}});
  }
  redraw();
}

// Two fingers: what lies between them stays between them.
function pinch(event) {
  const before = betweenFingers();
  fingers.set(event.pointerId, event);
  const {x, y, apart} = betweenFingers(),
    view = viewed();
  const row = view.row - (y - before.y) / view.zoom,
    column = view.column - (x - before.x) / view.zoom;
  state.view = {...view, row, column};
  pressed = null;
  zoomAt(apart / Math.max(before.apart, 1), x, y);
}

function betweenFingers() {
  const [{clientX: x0, clientY: y0}, {clientX: x1, clientY: y1}] = fingers.values();
  return {x: (x0 + x1) / 2, y: (y0 + y1) / 2, apart: Math.hypot(x0 - x1, y0 - y1)};
}

const draftMark = () =>
  pressed?.box
    ? {scene: scene.index, box: pressed.box}
    : pressed?.path
      ? {scene: scene.index, radius: state.radius, path: pressed.path}
      : null;

function sceneUp(event) {
  fingers.delete(event.pointerId);
  const mark = draftMark(),
    was = pressed;
  pressed = null;
  if (mark) act(mark);
  else if (was?.at && !was.moved && state.tool === "point") {
    const same = state.pinned && state.pixel === was.at[0] * scene.columns + was.at[1];
    pointAtPixel(...was.at, !same);
  }
}

function sceneKey(event) {
  const middle = Math.floor(scene.rows / 2) * scene.columns + Math.floor(scene.columns / 2);
  const from = state.pixel >= 0 ? state.pixel : middle,
    [row, column] = rowColumn(from, scene.columns);
  if (event.key in ARROWS) {
    const to = neighbour(event.key, from, scene, event.shiftKey ? 10 : 1);
    pointAtPixel(...to, true);
    if (pressed?.box) pressed.box.splice(2, 2, ...to);
    intoView(...to);
    sayWhere();
  } else if (event.key === "Enter" || event.key === " ") {
    if (state.tool === "brush") act({scene: scene.index, radius: state.radius, path: [row, column]});
    else if (state.tool === "box" && !pressed) pressed = {box: [row, column, row, column]};
    else if (state.tool === "box") sceneUp({});
    else pointAtPixel(row, column, true);
  } else if (event.key === "f") flip([state.neuron]);
  else if (event.key === "+" || event.key === "=") zoomMiddle(1.5);
  else if (event.key === "-") zoomMiddle(1 / 1.5);
  else if (event.key === "0") change({view: null});
  else return;
  event.preventDefault();
  redraw();
}

// Move the view to a pixel that is out of it.
function intoView(row, column) {
  const {clientWidth, clientHeight} = sceneCanvas,
    view = viewed();
  const out =
    Math.abs(row - view.row) * view.zoom > clientHeight / 2 ||
    Math.abs(column - view.column) * view.zoom > clientWidth / 2;
  if (out) change({view: {...view, row, column}});
}
