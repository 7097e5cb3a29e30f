// Control panel: sliders that turn a face, an embedded face to paint on, a voice to say. State lives in the kernel; this draws it.
const SIDE = 256; // of the layer, pixels

function render({ model, el }) {
  const make = maker("control"), [listen, forget] = listener(model), on = (name, f) => listen(`change:${name}`, f);
  const set = setter(model, listen, () => { status.textContent = GONE; });

  // the generated frame, and the embedded face below a layer that is painted on
  const images = {};
  const show = (name) => swap(images[name], model.get(name), "image/jpeg");
  const panel = (name, title, ...more) => {
    images[name] = make("img", { alt: title, draggable: false });
    const frame = make("div", { className: "x2face-frame", testid: name }, images[name], ...more);
    return make("figure", { className: "x2face-panel" }, make("figcaption", { textContent: title }), frame);
  };
  const canvas = make("canvas", { width: SIDE, height: SIDE, className: "x2face-canvas", testid: "canvas" });
  canvas.setAttribute("aria-label", "Embedded face: paint with the pointer");
  canvas.setAttribute("role", "img");
  const row = make("div", { className: "x2face-panels x2face-two" },
    panel("face", "Embedded face: paint on it", canvas), panel("generated", "Generated"));

  // painting
  const pen = canvas.getContext("2d"), colour = make("input", { type: "color", value: "#1c3fc4", testid: "colour" });
  const width = make("input", { type: "range", min: 1, max: 24, value: 5, testid: "width" });
  const send = async () => {
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    set({ layer: new DataView(await blob.arrayBuffer()) });
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  const stroke = (from, to) => {
    Object.assign(pen, { strokeStyle: colour.value, lineWidth: +width.value, lineCap: "round" });
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(to[0] + 0.01, to[1]); // a line without length leaves no dot
    pen.stroke();
  };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); last = at(event); stroke(last, last); });
  canvas.addEventListener("pointermove", (event) => { if (last) { const now = at(event); stroke(last, now); last = now; } });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { if (last) { last = null; send(); } });
  const clear = make("button", { className: "x2face-button", textContent: "Clear", testid: "clear", onclick: () => { pen.clearRect(0, 0, SIDE, SIDE); send(); } });
  const file = make("input", { type: "file", accept: "image/png,image/webp", hidden: true, testid: "file" });
  const paste = make("button", { className: "x2face-button", textContent: "Paste a picture…", testid: "paste", onclick: () => file.click() });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    try {
      pen.drawImage(await createImageBitmap(file.files[0]), 0, 0, SIDE, SIDE);
      send();
    } catch { status.textContent = "This file is not a picture that the browser can read; choose a PNG."; }
    file.value = "";
  });
  // a sound that the portrait says, and the film of it
  const voice = make("input", { type: "file", accept: "audio/*,video/*", hidden: true, testid: "sound" });
  const speak = make("button", { className: "x2face-button", textContent: "Let it speak…", testid: "speak", onclick: () => voice.click() });
  speak.hidden = !model.get("speaks");
  voice.addEventListener("change", async () => {
    const [chosen] = voice.files, most = model.get("longest");
    if (chosen?.size > most) status.textContent = `This sound is larger than ${most / 1e6} MB; choose a shorter one.`;
    else if (chosen) {
      try { model.send({ name: chosen.name }, undefined, [await chosen.arrayBuffer()]); } catch { status.textContent = GONE; }
    }
    voice.value = "";
  });
  const film = make("video", { controls: true, hidden: true, className: "x2face-film", testid: "film" });
  const showFilm = () => {
    film.hidden = !model.get("film")?.byteLength;
    if (!film.hidden) swap(film, model.get("film"), "video/mp4");
  };
  const tools = make("div", { className: "x2face-switches" }, make("label", { className: "x2face-switch" }, "Colour ", colour),
    make("label", { className: "x2face-switch" }, "Brush ", width), paste, file, clear, speak, voice);

  // sliders
  const status = make("div", { className: "x2face-says", testid: "status" });
  status.setAttribute("role", "status");
  const outputs = [], ranges = model.get("sliders").map(({ name, unit, most, step, help }, i) => {
    const range = make("input", { type: "range", min: -most, max: most, step, value: 0, testid: name });
    const value = outputs[i] = make("output", { textContent: "0" });
    range.addEventListener("input", () => {
      value.textContent = range.value;
      set({ amounts: model.get("amounts").map((a, k) => (k === i ? +range.value : a)) });
    });
    return [range, make("label", { className: "x2face-slider", title: help }, make("span", { textContent: `${name} (${unit})` }), range, value)];
  });
  const reset = make("button", { className: "x2face-button", textContent: "Sliders to zero", testid: "reset", onclick: () => set({ amounts: ranges.map(() => 0) }) });
  const showAmounts = () => model.get("amounts").forEach((a, i) => { ranges[i][0].value = a; outputs[i].textContent = String(a); });
  const directions = make("div", { className: "x2face-directions" }, ...ranges.map(([, node]) => node));

  el.append(make("div", { className: "x2face-explorer", testid: "root" }, row, tools, status, film, directions));
  tools.append(reset);
  for (const name of ["face", "generated"]) { on(name, () => show(name)); show(name); }
  on("film", showFilm);
  showFilm();
  on("amounts", showAmounts);
  on("says", () => { status.textContent = model.get("says"); });
  status.textContent = model.get("says");
  showAmounts();
  return () => {
    forget();
    for (const shown of [...Object.values(images), film]) URL.revokeObjectURL(shown.src);
  };
}

export default { render };
