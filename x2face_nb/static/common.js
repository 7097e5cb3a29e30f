// What all studios share. The Python side puts this text before the text of each, so nothing is exported here.

// An element: h("button", {class: "x", onclick: f, "aria-label": "Go"}, "Go")
function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (k in el && typeof v !== "string") el[k] = v;
    else if (v !== false && v != null) el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children);
  return el;
}

// Makes elements from properties; a test id gets a prefix. Keys pressed in a control are its own, not the notebook's.
function maker(prefix) {
  return (tag, { testid, ...props } = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    if (testid) node.dataset.testid = `${prefix}-${testid}`;
    if (node.tabIndex >= 0) node.dataset.lmSuppressShortcuts = "true";
    node.append(...children);
    return node;
  };
}

// A name for a view or an upload: the kernel takes lower-case letters and digits.
const newId = () => `v${Math.random().toString(36).slice(2)}`;

// The studio itself. Keys pressed in it are its own: a notebook would take arrows and letters for commands.
function shell(id, title, cls, ...children) {
  const el = h("div", { "data-testid": id, class: `x2f ${cls}`, role: "region", "aria-label": title, tabindex: "-1", "data-state": "idle", "data-lm-suppress-shortcuts": "true" }, ...children);
  el.addEventListener("keydown", e => { if (!e.ctrlKey && !e.metaKey && e.key !== "Escape") e.stopPropagation(); });
  el.addEventListener("pointerdown", e => { if (!e.target.closest("button, select, input, label, a, summary")) el.focus({ preventScroll: true }); });
  requestAnimationFrame(() => el.classList.toggle("x2f-notebook", !!el.closest(".jp-NotebookPanel"))); // a page of its own has more room
  return el;
}

// Keys for the whole studio: { " ": f, m: f }. On a page of its own they work wherever the focus is.
function keys(root, actions) {
  const press = e => {
    const f = actions[e.key.toLowerCase()], on = e.target;
    if (!f || e.ctrlKey || e.metaKey || e.altKey || e.repeat || on.closest?.("select, input:not([type=checkbox]):not([type=radio]), textarea")) return;
    if (e.key === " " && on.closest?.("button, input, a, summary")) return; // it presses these
    e.preventDefault();
    f();
  };
  const outside = e => { if (!root.contains(e.target) && !root.closest(".jp-NotebookPanel")) press(e); };
  root.addEventListener("keydown", press);
  document.addEventListener("keydown", outside);
  return () => document.removeEventListener("keydown", outside);
}

function fullScreen(id, root) {
  const toggle = () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen?.());
  const b = button(id, "Full screen", toggle, "x2f-quiet");
  b.hidden = !document.fullscreenEnabled;
  return [b, toggle];
}

// What the keys do, in one line.
function helpLine(...pairs) {
  return h("div", { class: "x2f-help" }, h("span", {}, "Keys"), ...pairs.map(([k, t]) => h("span", {}, h("kbd", {}, k), ` ${t}`)));
}

// A control's label is its visible text, and its test id is stable.
const named = (id, text) => ({ "data-testid": id, "aria-label": text });

// A double click is one click: the second would undo the first, or remove the next thing.
const once = f => e => { if (e.detail < 2) f(e); };

function button(id, text, onclick, cls = "") {
  return h("button", { "data-testid": id, type: "button", class: `x2f-button ${cls}`, onclick: once(onclick) }, text);
}

function rename(el, text) {
  if (el.textContent === text) return;
  el.textContent = text;
}

function checkbox(id, text, checked, onchange, title) {
  const box = h("input", { ...named(id, text), type: "checkbox", checked });
  box.addEventListener("change", () => onchange(box.checked));
  return [h("label", { class: "x2f-check", title }, box, h("span", {}, text)), box];
}

// A button that opens the file dialogue; the input itself is hidden.
function filePicker(id, text, accept, multiple, take, cls = "") {
  const input = h("input", { "data-testid": `${id}-file`, "aria-label": text, type: "file", accept, multiple, hidden: true });
  input.addEventListener("change", () => { if (input.files.length) take([...input.files]); input.value = ""; });
  return [button(`${id}-add`, text, () => input.click(), cls), input];
}

// A gallery of one row may be longer than its place: scroll to a tile that is beyond the edge, or below the button that adds one.
function inSight(tile) {
  const row = tile?.closest(".x2f-gallery"), add = row?.querySelector(".x2f-add");
  if (!row || !tile.offsetWidth) return;
  const [t, r] = [tile, row].map(x => x.getBoundingClientRect()), end = r.right - (add ? add.offsetWidth + 12 : 0);
  if (t.left < r.left || t.right > end) row.scrollLeft += t.right - end;
}

// Pictures to choose one from; arrow keys move between them as in any group of radio buttons. The chosen one can be removed.
function gallery(id, title, items, chosen, choose, remove) {
  const group = newId();
  const box = h("div", { class: "x2f-tiles", role: "radiogroup", "aria-label": title });
  let shown = null, last = chosen;
  const tile = (item, i) => {
    const radio = h("input", { ...named(`${id}-${i}`, item.name), type: "radio", name: group });
    radio.addEventListener("change", () => choose(i));
    radio.addEventListener("keydown", e => { if (e.key === "Delete") remove(i); });
    const x = h("button", { "data-testid": `${id}-${i}-remove`, type: "button", class: "x2f-remove", title: `Remove ${item.name}`, "aria-label": `Remove ${item.name}`, onclick: once(() => remove(i)) }, "×");
    return h("span", { class: "x2f-item" }, h("label", { class: "x2f-tile", title: item.name }, radio,
      h("img", { src: url(item.thumb, "image/jpeg"), alt: "", draggable: false }), h("span", { "aria-hidden": "true" }, item.name)), x);
  };
  const update = (items, chosen) => {
    if (items !== shown) {
      shown = items;
      box.querySelectorAll("img").forEach(i => URL.revokeObjectURL(i.src));
      box.replaceChildren(...items.map(tile));
    }
    box.querySelectorAll("input").forEach((radio, i) => { radio.checked = i === chosen; });
    if (chosen !== last) requestAnimationFrame(() => inSight(box.children[last = chosen]));
  };
  update(items, chosen);
  return [box, update];
}

// Several pictures at once: whose are they? Asked in the studio itself; each portrait's files are then sent.
function portraitQuestion(id, send) {
  const text = h("span", {}), box = h("div", { "data-testid": `${id}-question`, class: "x2f-question", role: "group", "aria-label": "Several pictures", hidden: true });
  let files = [];
  const answer = async sets => {
    box.hidden = true;
    for (const set of sets) if (await send("portrait", set, `Looking for a face in ${set.length > 1 ? `${set.length} pictures` : set[0].name} …`) === null) return;
  };
  const one = button(`${id}-one`, "One person", () => answer([files])), many = button(`${id}-many`, "", () => answer(files.map(x => [x])));
  box.append(text, one, many, button(`${id}-none`, "Cancel", () => answer([]), "x2f-quiet"));
  const ask = given => {
    if (given.length < 2) return answer([given]);
    files = given;
    text.textContent = `${files.length} pictures: of one person, or of several?`;
    rename(many, `${files.length} portraits`);
    box.hidden = false;
    one.focus();
  };
  return [box, ask];
}

// Files that are dropped on the studio: pictures to one function, videos to another.
function dropZone(root, pictures, videos) {
  let depth = 0;
  const lit = on => root.classList.toggle("x2f-drop", on);
  const has = e => [...(e.dataTransfer?.types || [])].includes("Files");
  root.addEventListener("dragenter", e => { if (has(e)) { e.preventDefault(); lit(++depth > 0); } });
  root.addEventListener("dragleave", e => { if (has(e)) lit(--depth > 0); });
  root.addEventListener("dragover", e => { if (has(e)) { e.preventDefault(); e.stopPropagation(); } });
  root.addEventListener("drop", e => {
    if (!has(e)) return;
    e.preventDefault();
    e.stopPropagation();
    lit((depth = 0) > 0);
    const files = [...e.dataTransfer.files], films = files.filter(f => f.type.startsWith("video/")), rest = files.filter(f => !films.includes(f));
    if (rest.length) pictures(rest);
    if (films.length) videos(films);
  });
}

// Settings in a folded panel, one row each: {name, label, help, default} and choices, or the bounds of a number, or neither for a switch.
function optionsPanel(id, model, rows, say) {
  const set = (name, value) => assign(model, "options", { ...model.get("options"), [name]: value });
  const show = {};
  const control = row => {
    const about = { ...named(`${id}-${row.name}`, row.label), class: "x2f-select" };
    let el;
    if (row.choices?.length) {
      el = h("select", about, ...row.choices.map(c => h("option", { value: `${c}` }, `${c}`)));
      el.addEventListener("change", () => set(row.name, row.choices[el.selectedIndex]));
      show[row.name] = v => { el.value = `${v}`; };
    } else if (typeof row.default === "boolean") {
      el = h("input", { ...about, class: "", type: "checkbox" });
      el.addEventListener("change", () => set(row.name, el.checked));
      show[row.name] = v => { el.checked = v; };
    } else {
      el = h("input", { ...about, type: "number", min: `${row.least}`, max: `${row.most}`, step: `${row.step}`, placeholder: row.empty });
      el.addEventListener("change", () => {
        const v = el.valueAsNumber, none = Number.isNaN(v), { badInput, rangeUnderflow, rangeOverflow } = el.validity;
        if (!badInput && !rangeUnderflow && !rangeOverflow && (row.empty || !none)) return set(row.name, none ? null : v);
        say(`${row.label} is a number from ${row.least} to ${row.most}.`, "error");
        update();
      });
      show[row.name] = v => { el.value = v == null ? "" : `${v}`; };
    }
    return h("label", { class: "x2f-option", title: row.help }, h("span", {}, row.label), el);
  };
  const body = h("div", { class: "x2f-options-body" }, ...rows.map(control));
  const panel = h("details", { "data-testid": `${id}s`, class: "x2f-options" }, h("summary", {}, "Options"), body);
  const update = () => { const values = model.get("options"); for (const row of rows) show[row.name](values[row.name] ?? row.default); };
  panel.hidden = !rows.length;
  update();
  return [panel, update];
}

// A picture under its title.
function panel(title, content, cls = "") {
  const caption = h("figcaption", {}, title);
  return Object.assign(h("figure", { class: `x2f-panel ${cls}` }, caption, h("div", { class: "x2f-frame" }, content)), { caption });
}

function canvas(id, title, size = 256) {
  return h("canvas", { "data-testid": id, role: "img", "aria-label": title, width: size, height: size });
}

const url = (bytes, type) => URL.createObjectURL(new Blob([bytes], { type }));

// Show other bytes in a picture or video.
function swap(el, bytes, type) {
  if (el.src) URL.revokeObjectURL(el.src);
  el.src = url(bytes, type);
}

// Draw a JPEG; resolves when it can be seen. A canvas shows the newest picture asked for, whichever is decoded first.
async function draw(canvas, bytes) {
  const turn = canvas.turn = (canvas.turn || 0) + 1;
  if (!bytes || !bytes.byteLength) { canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height); return; }
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
  if (turn === canvas.turn) {
    if (canvas.width !== picture.width) { canvas.width = picture.width; canvas.height = picture.height; }
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }
  picture.close();
}

// The line that says what is going on. An error stays until the visitor does something.
function statusLine(id) {
  const el = h("div", { "data-testid": id, class: "x2f-status", role: "status", "aria-live": "polite", "data-level": "info" });
  let kept = false;
  const say = (text, level = "info") => {
    if (kept && level !== "error") return;
    kept = level === "error";
    if (el.textContent === text && el.dataset.level === level) return;
    el.textContent = text;
    el.dataset.level = level;
  };
  const release = root => { for (const t of ["click", "change", "keydown", "drop"]) root.addEventListener(t, () => { kept = false; }, true); };
  return [el, say, release];
}

// Save bytes as a file of the visitor's; the link stays for a second time.
function save(link, name, bytes, type) {
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = url(bytes, type);
  link.download = name;
  rename(link, `Download ${name}`);
  link.hidden = false;
  link.click();
}

const GONE = "The kernel does not answer; run the cell again, or reload the page.";

// Send files to the kernel in pieces, each after the one before was taken: a websocket message has a limit. Resolves to whether
// they were taken; null without a kernel.
const PIECE = 1 << 20;
async function upload(model, view, kind, files, say) {
  const batch = newId();
  const total = files.reduce((n, f) => n + f.size, 0);
  let sent = 0;
  for (const [i, file] of files.entries()) {
    for (let at = 0; at === 0 || at < file.size; at += PIECE) {
      const piece = await file.slice(at, at + PIECE).arrayBuffer();
      const last = at + PIECE >= file.size;
      const taken = reply(model, m => m.batch === batch, 60000);
      try { model.send({ type: "piece", view, kind, batch, file: i, name: file.name, at, last, complete: last && i === files.length - 1 }, undefined, [piece]); }
      catch { say(GONE, "error"); return null; }
      const answer = await taken;
      if (!answer) { say(GONE, "error"); return null; }
      if (answer.type === "refused") return false;
      sent += piece.byteLength;
      if (total > 4 * PIECE && !last) say(`Uploading ${file.name}: ${Math.round(100 * sent / total)} %`);
    }
  }
  return true;
}

// The next message of the kernel that fits; null when none came in time.
function reply(model, fits, ms) {
  return new Promise(resolve => {
    const done = x => { clearTimeout(timer); model.off("msg:custom", on); resolve(x); };
    const on = (m, buffers) => { if (fits(m)) done({ ...m, buffers }); };
    const timer = setTimeout(() => done(null), ms);
    model.on("msg:custom", on);
  });
}

// Listen to the model and forget it all when the view goes.
function listener(model) {
  const kept = [];
  const on = (event, f) => { model.on(event, f); kept.push([event, f]); };
  return [on, () => kept.forEach(([e, f]) => model.off(e, f))];
}

function assign(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

// Sends several changed values; f is called without a kernel, now or later.
function setter(model, on, f) {
  on("comm_live_update", f);
  return values => {
    Object.entries(values).forEach(([k, v]) => model.set(k, v));
    try { model.save_changes(); } catch { f(); }
  };
}
