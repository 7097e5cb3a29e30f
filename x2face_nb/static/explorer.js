// Explorer: a generated frame, and where each of its pixels was read. State lives in the kernel; this draws it.
const PANELS = [["driving", "Driving"], ["generated", "Generated: click a pixel"], ["face", "Embedded face"], ["source", "Source"]];
const SWITCHES = [["arrows", "Arrows"], ["folds", "Folds"], ["outside", "Outside"], ["mesh", "Mesh"], ["refined", "Refined"]];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function render({ model, el }) {
  const make = maker("explorer"), [listen, forget] = listener(model);
  const on = (names, f) => names.forEach((n) => listen(`change:${n}`, f));
  const set = setter(model, listen, () => { says.textContent = GONE; });

  // pictures, each with a mark
  const panels = {};
  const row = make("div", { className: "x2face-panels" });
  for (const [name, title] of PANELS) {
    const img = make("img", { alt: title, draggable: false });
    const mark = make("span", { className: "x2face-mark", hidden: true, testid: `mark-${name}` });
    const frame = make("div", { className: "x2face-frame", testid: name, ...(name === "generated" && { tabIndex: 0 }) }, img, mark);
    const panel = make("figure", { className: `x2face-panel x2face-${name}` }, make("figcaption", { textContent: title }), frame);
    panels[name] = { img, mark, frame, panel };
    row.append(panel);
  }
  const showPicture = (name) => {
    const { img, panel } = panels[name], jpeg = model.get(name);
    panel.hidden = !jpeg?.byteLength;
    if (!panel.hidden) swap(img, jpeg, "image/jpeg");
  };
  const showPlaces = () => {
    const places = model.get("places");
    for (const [name, { mark }] of Object.entries(panels)) {
      const at = places[name];
      mark.hidden = !at;
      if (!at) continue;
      const inside = at.map((v) => Math.min(Math.max(v, 0), 1));
      mark.style.left = `${100 * inside[0]}%`;
      mark.style.top = `${100 * inside[1]}%`;
      mark.classList.toggle("x2face-beyond", inside.some((v, i) => v !== at[i]));
    }
  };

  // the pixel: by pointer (also dragged) and by the arrow keys
  const target = panels.generated.frame;
  target.setAttribute("role", "application");
  target.setAttribute("aria-label", "Generated frame: click a pixel, or move with the arrow keys");
  const pick = (event) => {
    const box = target.getBoundingClientRect(), size = model.get("size");
    const index = (v, from, length) => Math.min(Math.max(Math.floor(((v - from) / length) * size), 0), size - 1);
    set({ pixel: [index(event.clientX, box.left, box.width), index(event.clientY, box.top, box.height)] });
  };
  target.addEventListener("pointerdown", (event) => { target.setPointerCapture(event.pointerId); pick(event); });
  target.addEventListener("pointermove", (event) => { if (event.buttons & 1) pick(event); });
  target.addEventListener("keydown", (event) => {
    const step = STEPS[event.key], size = model.get("size");
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const by = event.shiftKey ? 10 : 1;
    set({ pixel: model.get("pixel").map((v, i) => Math.min(Math.max(v + by * step[i], 0), size - 1)) });
  });

  // sliders and switches
  const slider = (label, props, input) => {
    const range = make("input", { type: "range", ...props });
    const value = make("output");
    range.addEventListener("input", () => { value.textContent = input(range); });
    return { range, value, node: make("label", { className: "x2face-slider" }, make("span", { textContent: label }), range, value) };
  };
  const frame = slider("Driving frame", { testid: "frame", min: 0, max: Math.max(model.get("frames") - 1, 0), step: 1 }, (r) => { set({ frame: +r.value }); return r.value; });
  const amounts = model.get("shares").map((share, i) =>
    slider(`${model.get("names")[i]} (${Math.round(100 * share)} %)`, { testid: `direction-${i}`, min: -4, max: 4, step: 0.1 }, (r) => {
      set({ amounts: model.get("amounts").map((a, k) => (k === i ? +r.value : a)) });
      return (+r.value).toFixed(1);
    }));
  const showSliders = () => {
    frame.range.value = model.get("frame");
    frame.value.textContent = model.get("frame");
    amounts.forEach(({ range, value }, i) => {
      if (document.activeElement !== range) range.value = model.get("amounts")[i];
      value.textContent = model.get("amounts")[i].toFixed(1);
    });
  };
  const reset = make("button", { type: "button", className: "x2face-button", testid: "reset", textContent: "Directions to zero" });
  reset.addEventListener("click", () => set({ amounts: model.get("amounts").map(() => 0) }));
  const switches = SWITCHES.map(([name, title]) => {
    const box = make("input", { type: "checkbox", testid: name });
    box.addEventListener("change", () => set({ [name]: box.checked }));
    return { name, box, node: make("label", { className: `x2face-switch x2face-is-${name}` }, box, make("span", { textContent: title })) };
  });
  const showSwitches = () => switches.forEach(({ name, box }) => { box.checked = model.get(name); });

  const says = make("p", { className: "x2face-says", testid: "status" });
  says.setAttribute("role", "status");
  says.setAttribute("aria-live", "polite");
  const showSays = () => { says.textContent = model.get("says"); };

  panels.driving.panel.append(frame.node);
  const root = make("div", { className: "x2face-explorer", testid: "root" }, row, says,
    make("div", { className: "x2face-switches" }, ...switches.map((s) => s.node), reset),
    make("div", { className: "x2face-directions" }, ...amounts.map((a) => a.node)));
  el.append(root);

  PANELS.forEach(([name]) => { on([name], () => showPicture(name)); showPicture(name); });
  on(["places"], showPlaces);
  on(["frame", "amounts"], showSliders);
  on(SWITCHES.map(([name]) => name), showSwitches);
  on(["says"], showSays);
  [showPlaces, showSliders, showSwitches, showSays].forEach((f) => f());
  return () => {
    forget();
    for (const { img } of Object.values(panels)) URL.revokeObjectURL(img.src);
    root.remove();
  };
}

export default { render };
