// What the page holds, unpacked: the map, and the pixels of a scene. Neurons are numbered row by row from 0 in here;
// people are shown row and column counted from 1, as in the paper.
const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const START = read("start");
const {map: MAP, bands: BANDS, classes: CLASSES, bits: BITS} = START;
MAP.weights = new Float64Array(Uint8Array.from(atob(MAP.weights), (letter) => letter.charCodeAt(0)).buffer);
const N_NEURONS = MAP.rows * MAP.columns;
const NONE = 255,
  NO_NEURON = 0xffff; // of a byte and of two: a pixel without data

// Row and column of the element `index` of an image or map with so many columns.
const rowColumn = (index, columns) => [Math.floor(index / columns), index % columns];
const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const counted = (neuron) => rowColumn(neuron, MAP.columns).map((at) => at + 1);
const placeOf = (neuron) => `(${counted(neuron).join(", ")})`;
const wordOf = (neuron) => counted(neuron).join(); // as FLIP_NEURONS has it: row,column from 1
const classOf = (neuron) => CLASSES.find((each) => each.code === MAP.classes[neuron]);
const reflectanceOf = (neuron) =>
  BANDS.map((_, band) => (MAP.weights[neuron * BANDS.length + band] - MAP.shift[band]) / MAP.scale[band]);
const cloudVotes = MAP.votes && MAP.votes.map((votes) => sum(votes.filter((_, i) => CLASSES[i].cloud)));

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

// Euclidean distance of a spectrum (reflectance) to a neuron in scaled units, as the pipeline computes it.
function distance(spectrum, neuron) {
  const off = spectrum.map(
    (value, band) => value * MAP.scale[band] + MAP.shift[band] - MAP.weights[neuron * BANDS.length + band],
  );
  return Math.sqrt(sum(off.map((each) => each * each)));
}

async function picture(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

// The bytes of a picture that holds numbers: red, green, blue, and an alpha of 255.
async function bytesOf(uri) {
  const image = await picture(uri),
    canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

// The neuron of each pixel from its row and column.
function numbered(bytes) {
  const found = new Uint16Array(bytes.length / 4);
  for (let i = 0, j = 0; i < found.length; i++, j += 4) {
    found[i] = bytes[j] === NONE ? NO_NEURON : bytes[j] * MAP.columns + bytes[j + 1];
  }
  return found;
}

const loaded = [];
const unpacked = new Set(); // the scenes that are

// A scene with its pixels; unpacked once. `rows` and `columns` count the pixels that can be pointed at, every `step`th.
const load = (index) => (loaded[index] ??= unpack(index));

async function unpack(index) {
  const scene = START.scenes[index],
    layers = read(`layers-${index}`);
  const neurons = await bytesOf(layers.neurons);
  scene.index = index;
  [scene.columns, scene.rows] = [neurons.width, neurons.height];
  scene.neurons = numbered(neurons.data);
  scene.rest = (await bytesOf(layers.rest)).data; // row and column of the sub-neuron, bits, and 255
  scene.votes = layers.votes && (await bytesOf(layers.votes)).data;
  scene.spectra = await bytesOf(layers.spectra);
  scene.pictures = {};
  for (const name in layers.pictures) scene.pictures[name] = await picture(layers.pictures[name]);
  sortByNeuron(scene);
  if (scene.step === 1 && scene.pixels.some((n, neuron) => n !== pixelsOn(scene, neuron).length)) {
    throw new Error(
      "this browser changes what is read from pictures (a protection against being recognised), " +
        "so its numbers would be wrong; allow this page to read them, or use another browser",
    );
  }
  unpacked.add(scene);
  return scene;
}

// The pixels of each neuron beside each other, so that pointing at one need not look at all.
function sortByNeuron(scene) {
  const starts = new Uint32Array(N_NEURONS + 1),
    next = new Uint32Array(N_NEURONS);
  for (const neuron of scene.neurons) if (neuron !== NO_NEURON) starts[neuron + 1]++;
  for (let i = 0; i < N_NEURONS; i++) {
    starts[i + 1] += starts[i];
    next[i] = starts[i];
  }
  scene.starts = starts;
  scene.sorted = new Uint32Array(starts[N_NEURONS]);
  scene.neurons.forEach((neuron, pixel) => {
    if (neuron !== NO_NEURON) scene.sorted[next[neuron]++] = pixel;
  });
}

const pixelsOn = (scene, neuron) => scene.sorted.subarray(scene.starts[neuron], scene.starts[neuron + 1]);

// The spectrum in the page that is nearest to a pixel: its row and column in the image, and reflectance; or null.
function spectrumNear(scene, row, column) {
  const nearest = (at, size) => Math.min(Math.round((at * scene.step) / scene.apart), size - 1);
  const {data, width, height} = scene.spectra,
    size = height / BANDS.length;
  const r = nearest(row, size),
    c = nearest(column, width);
  const stored = BANDS.map((_, band) => {
    const at = 4 * ((band * size + r) * width + c);
    return 256 * data[at] + data[at + 1];
  });
  if (!stored.some(Boolean)) return null;
  const values = stored.map((value, band) => (value + scene.offsets[band]) / scene.quantification);
  return {row: r * scene.apart, column: c * scene.apart, values};
}
