// What the studios share. The Python side puts this text before live.js and offline.js, so nothing is exported here.

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

// The studio itself. Keys pressed in it are its own: a notebook would take arrows and letters for commands.
function shell(id, cls, ...children) {
  const el = h("div", { "data-testid": id, class: `x2f ${cls}`, "data-state": "idle" }, ...children);
  el.addEventListener("keydown", e => { if (!e.ctrlKey && !e.metaKey && e.key !== "Escape") e.stopPropagation(); });
  return el;
}

// A control's label is its visible text, and its test id is stable.
const named = (id, text) => ({ "data-testid": id, "aria-label": text });

function button(id, text, onclick, cls = "") {
  return h("button", { ...named(id, text), type: "button", class: `x2f-button ${cls}`, onclick }, text);
}

function rename(el, text) {
  if (el.textContent === text) return;
  el.textContent = text;
  el.setAttribute("aria-label", text);
}

function checkbox(id, text, checked, onchange) {
  const box = h("input", { ...named(id, text), type: "checkbox", checked });
  box.addEventListener("change", () => onchange(box.checked));
  return [h("label", { class: "x2f-check" }, box, h("span", {}, text)), box];
}

// A button that opens the file dialogue; the input itself is hidden.
function filePicker(id, text, accept, multiple, take, cls = "") {
  const input = h("input", { "data-testid": `${id}-file`, "aria-label": text, type: "file", accept, multiple, hidden: true });
  input.addEventListener("change", () => { if (input.files.length) take([...input.files]); input.value = ""; });
  return [button(`${id}-add`, text, () => input.click(), cls), input];
}

// Pictures to choose one from; arrow keys move between them as in any group of radio buttons.
function gallery(id, title, items, chosen, choose) {
  const group = `${id}-${Math.random().toString(36).slice(2)}`;
  const box = h("div", { class: "x2f-tiles", role: "radiogroup", "aria-label": title });
  let shown = null;
  const update = (items, chosen) => {
    if (items !== shown) {
      shown = items;
      box.querySelectorAll("img").forEach(i => URL.revokeObjectURL(i.src));
      box.replaceChildren(...items.map((item, i) => {
        const radio = h("input", { ...named(`${id}-${i}`, item.name), type: "radio", name: group });
        radio.addEventListener("change", () => choose(i));
        return h("label", { class: "x2f-tile", title: item.name }, radio,
          h("img", { src: url(item.thumb, "image/jpeg"), alt: "", draggable: false }), h("span", { "aria-hidden": "true" }, item.name));
      }));
    }
    box.querySelectorAll("input").forEach((radio, i) => { radio.checked = i === chosen; });
  };
  update(items, chosen);
  return [box, update];
}

// A picture under its title.
function panel(title, content, cls = "") {
  return h("figure", { class: `x2f-panel ${cls}` }, h("figcaption", {}, title), h("div", { class: "x2f-frame" }, content));
}

function canvas(id, title, size = 256) {
  return h("canvas", { "data-testid": id, role: "img", "aria-label": title, width: size, height: size });
}

const url = (bytes, type) => URL.createObjectURL(new Blob([bytes], { type }));

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

// The line that says what is going on.
function statusLine(id) {
  const el = h("div", { "data-testid": id, class: "x2f-status", role: "status", "aria-live": "polite", "data-level": "info" });
  const say = (text, level = "info") => {
    if (el.textContent === text && el.dataset.level === level) return;
    el.textContent = text;
    el.dataset.level = level;
  };
  return [el, say];
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

const GONE = "The kernel does not answer any more; if it was restarted, run the cell again.";

// Send files to the kernel in pieces, each after the one before was taken: a websocket message has a limit.
const PIECE = 1 << 20;
async function upload(model, view, kind, files, say) {
  const batch = Math.random().toString(36).slice(2);
  const total = files.reduce((n, f) => n + f.size, 0);
  let sent = 0;
  for (const [i, file] of files.entries()) {
    for (let at = 0; at === 0 || at < file.size; at += PIECE) {
      const piece = await file.slice(at, at + PIECE).arrayBuffer();
      const last = at + PIECE >= file.size;
      const taken = reply(model, m => m.batch === batch, 60000);
      try { model.send({ type: "piece", view, kind, batch, file: i, name: file.name, at, last, complete: last && i === files.length - 1 }, undefined, [piece]); }
      catch { say(GONE, "error"); return false; }
      const answer = await taken;
      if (!answer) { say(GONE, "error"); return false; }
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
