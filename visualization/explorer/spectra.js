// The spectra: the neuron's weights, the pixel's reflectance, and the classes' means, against wavelength in nm.
const SIZE = {width: 640, height: 300, left: 46, right: 8, top: 26, bottom: 36};
const ORDER = BANDS.map((_, i) => i).sort((a, b) => START.wavelengths[a] - START.wavelengths[b]);

function drawSpectra(near) {
  const lines = CLASSES.filter(({code}) => MAP.means[code]).map(({code, name, colour, dash}) => ({
    name: `mean ${name}${MAP.meansOf === "neurons" ? " neuron" : ""}`,
    values: MAP.means[code],
    colour,
    dash,
    width: 1.2,
  }));
  if (state.neuron >= 0) {
    const name = `neuron ${placeOf(state.neuron)}`;
    lines.push({name, values: reflectanceOf(state.neuron), colour: "var(--text)", dash: "", width: 3.2});
  }
  if (near)
    lines.push({
      name: "pixel",
      values: near.values,
      colour: "var(--accent)",
      dash: "",
      width: 1.6,
      points: true,
    });
  const {width, height, left, right, top, bottom} = SIZE;
  const most = Math.max(0.4, ...lines.flatMap(({values}) => values)) * 1.05;
  const x = (nm) => left + ((nm - 400) / 1850) * (width - left - right);
  const y = (value) => height - bottom - (Math.max(value, -0.02) / most) * (height - top - bottom);
  const parts = [];
  for (let value = 0; value < most; value += most > 1 ? 0.5 : 0.1) {
    parts.push(
      `<path class="grid" d="M${left} ${y(value)}H${width - right}"/><text x="${left - 5}" y="${y(value) + 4}" text-anchor="end">${value.toFixed(1)}</text>`,
    );
  }
  ORDER.forEach((band, i) => {
    const at = x(START.wavelengths[band]);
    parts.push(`<path class="grid" d="M${at} ${top}V${height - bottom}"/>`);
    if (!["B6", "B7", "B8a"].includes(BANDS[band]))
      parts.push(`<text x="${at}" y="${i % 2 ? 11 : 22}" text-anchor="middle">${BANDS[band]}</text>`);
  });
  for (const nm of [500, 1000, 1500, 2000])
    parts.push(`<text x="${x(nm)}" y="${height - 20}" text-anchor="middle">${nm}</text>`);
  parts.push(
    `<text x="${(left + width) / 2}" y="${height - 4}" text-anchor="middle">wavelength (nm); reflectance upwards</text>`,
  );
  for (const {values, colour, dash, width: thick, points} of lines) {
    const places = ORDER.map((band) => [x(START.wavelengths[band]).toFixed(1), y(values[band]).toFixed(1)]);
    parts.push(
      `<polyline points="${places.join(" ")}" fill="none" stroke="${colour}" stroke-width="${thick}" stroke-dasharray="${dash}"/>`,
    );
    if (points)
      parts.push(...places.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3.4" fill="${colour}"/>`));
  }
  byId("spectra").innerHTML = parts.join("");
  byId("spectra-legend").innerHTML = lines
    .map(
      ({name, colour, dash, width: thick}) =>
        `<li><svg viewBox="0 0 28 8" aria-hidden="true"><path d="M0 4H28" stroke="${colour}" stroke-width="${thick}" stroke-dasharray="${dash}"/></svg>${name}</li>`,
    )
    .join("");
  if (byId("numbers").open) spectraTable(lines);
}

function spectraTable(lines) {
  const head = `<tr><th scope="col">band</th><th scope="col">nm</th>${lines.map(({name}) => `<th scope="col">${name}</th>`).join("")}</tr>`;
  const rows = ORDER.map(
    (band) =>
      `<tr><th scope="row">${BANDS[band]}</th><td>${START.wavelengths[band]}</td>${lines.map(({values}) => `<td>${values[band].toFixed(4)}</td>`).join("")}</tr>`,
  );
  byId("spectra-table").innerHTML = head + rows.join("");
}
