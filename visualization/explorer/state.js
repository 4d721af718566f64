// What is shown and what was done, in one place and in the address, so that a view can be shared and undone.
const state = {
  scene: 0,
  picture: "true colour",
  mask: "now",
  style: "veil",
  plane: "cloud or clear",
  scale: "log",
  tool: "point",
  radius: 3,
  neuron: -1,
  pixel: -1,
  pinned: false,
  view: null,
  actions: [],
  done: 0, // the first `done` actions hold; those after it were undone
};

const SHARED = ["picture", "mask", "style", "plane", "scale"];

// An action is {neurons} to flip or flip back, or a mark: {scene, box: [row, column, row, column]} with both corners
// in it, {scene, radius, path: [row, column, row, column...]} of a brush; {wipe: true} takes all marks away.
function act(action) {
  state.actions = [...state.actions.slice(0, state.done), action];
  change({done: state.actions.length});
}

const undo = () => change({done: Math.max(0, state.done - 1)});
const redo = () => change({done: Math.min(state.actions.length, state.done + 1)});

// The neurons that are flipped now; worked out once for each list of actions.
const flipped = sinceLastAct((done) => {
  const found = new Set();
  for (const {neurons = []} of done) {
    for (const neuron of neurons) if (!found.delete(neuron)) found.add(neuron);
  }
  return found;
});

// The marks that there are now.
const marks = sinceLastAct((done) => {
  const last = done.findLastIndex((action) => action.wipe);
  return done.slice(last + 1).filter((action) => action.scene !== undefined);
});

function sinceLastAct(work) {
  let actions, done, known;
  return () => {
    if (actions !== state.actions || done !== state.done) {
      ({actions, done} = state);
      known = work(actions.slice(0, done));
    }
    return known;
  };
}

function asWords(action) {
  if (action.wipe) return "w";
  if (action.neurons) return `f${action.neurons.map(wordOf).join("_")}`;
  const {box, radius, path} = action;
  return box ? `b${action.scene}_${box.join("_")}` : `p${action.scene}_${radius}_${path.join("_")}`;
}

function fromWords(text) {
  if (text === "w") return {wipe: true};
  const parts = text.slice(1).split("_");
  if (text[0] === "f")
    return {neurons: parts.map(neuronNamed).filter((neuron) => neuron >= 0 && MAP.cloud[neuron])};
  const [at, ...rest] = parts.map(Number);
  if (!START.scenes[at] || !rest.every(Number.isInteger)) return {neurons: []};
  if (text[0] === "b") return {scene: at, box: rest.slice(0, 4)};
  return {
    scene: at,
    radius: clamp(rest[0], 0, 50),
    path: rest.slice(1, 1 + 2 * Math.floor((rest.length - 1) / 2)),
  };
}

function neuronNamed(word) {
  const [row, column] = word.split(",").map(Number);
  const onMap = row >= 1 && row <= MAP.rows && column >= 1 && column <= MAP.columns;
  return onMap ? (row - 1) * MAP.columns + column - 1 : -1;
}

function address() {
  const words = new URLSearchParams({scene: START.scenes[state.scene].name});
  for (const name of SHARED) words.set(name, state[name]);
  if (state.pinned && state.pixel >= 0) words.set("pixel", state.pixel);
  else if (state.pinned) words.set("neuron", wordOf(state.neuron));
  const {view} = state;
  if (view) words.set("view", [view.row.toFixed(1), view.column.toFixed(1), view.zoom.toFixed(3)]);
  if (state.done) words.set("done", state.actions.slice(0, state.done).map(asWords).join("."));
  return `#${words}`;
}

function fromAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const at = START.scenes.findIndex((each) => each.name === words.get("scene"));
  const found = {scene: Math.max(0, at)};
  for (const name of SHARED) {
    const choices = [...byId(name).options].map((option) => option.value);
    if (choices.includes(words.get(name))) found[name] = words.get(name);
  }
  const neuron = neuronNamed(words.get("neuron") ?? "");
  if (neuron >= 0) Object.assign(found, {neuron, pinned: true});
  if (words.has("pixel")) Object.assign(found, {pixel: Number(words.get("pixel")) || 0, pinned: true});
  const [row, column, scale] = (words.get("view") ?? "").split(",").map(Number);
  if (row >= 0 && column >= 0 && scale > 0) found.view = {row, column, zoom: scale};
  if (words.get("done")) found.actions = words.get("done").split(".").map(fromWords);
  found.done = found.actions?.length ?? 0;
  return found;
}
