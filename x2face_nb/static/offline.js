// OfflineStudio: a portrait, a video, and what becomes of the two.

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const [on, forget] = listener(model);
  const [status, say] = statusLine("offline-status");
  const tell = content => { try { model.send(content); } catch { say(GONE, "error"); } };
  const busy = () => model.get("busy");

  // --- what is chosen
  const [sources, showSources] = gallery("offline-source", "Portraits", model.get("gallery"), model.get("chosen"), i => assign(model, "chosen", i));
  const [drivers, showDrivers] = gallery("offline-driver", "Videos", model.get("drivers"), model.get("driver"), i => assign(model, "driver", i));
  const [addSource, sourceFile] = filePicker("offline-source", "Upload pictures", "image/*", true, files => send("portrait", files, `Looking for a face in ${files.length > 1 ? `${files.length} pictures` : files[0].name} …`), "x2f-add");
  const [addDriver, driverFile] = filePicker("offline-driver", "Upload video", "video/*", false, files => send("driver", files, `Opening ${files[0].name} …`), "x2f-add");
  async function send(kind, files, text) { say(text); await upload(model, view, kind, files, say); }

  // --- what is done
  const LENGTHS = [[5, "First 5 s"], [10, "First 10 s"], [30, "First 30 s"], [0, "Whole video"]];
  const length = h("select", { ...named("offline-length", "Length"), class: "x2f-select" }, ...LENGTHS.map(([v, t]) => h("option", { value: v }, t)));
  length.addEventListener("change", () => assign(model, "seconds", Number(length.value)));
  const [markLabel, mark] = checkbox("offline-mark", "Mark as generated", model.get("mark"), v => assign(model, "mark", v));
  const animate = button("offline-animate", "Animate", () => tell({ type: busy() ? "cancel" : "animate", view }), "x2f-primary");
  const bar = h("progress", { "data-testid": "offline-progress", "aria-label": "Progress", max: 1, value: 0 });

  // --- what is seen
  const CELLS = [["offline-source", "Source"], ["offline-face", "Embedded face"], ["offline-driving", "Driving"], ["offline-generated", "Generated"]];
  const [src, face, drv, gen] = CELLS.map(([id, title]) => canvas(id, title));
  const hint = h("div", { class: "x2f-idle" }, "Press Animate");
  const video = h("video", { muted: true, loop: true, playsInline: true, hidden: true });
  const play = button("offline-play", "Play", () => (video.paused ? video.play() : video.pause()));
  const seek = h("input", { ...named("offline-seek", "Position"), type: "range", min: 0, max: 1000, step: 1 });
  seek.addEventListener("input", () => { if (video.duration) video.currentTime = seek.value / 1000 * video.duration; });
  const [soundLabel, sound] = checkbox("offline-sound", "Sound", false, v => { video.muted = !v; });
  const keep = button("offline-save", "Save video", () => tell({ type: "save", view, which: "generated" }));
  const keepAll = button("offline-save-compare", "Save side by side", () => tell({ type: "save", view, which: "compare" }));
  const link = h("a", { "data-testid": "offline-download", class: "x2f-link", hidden: true });
  const time = h("span", { class: "x2f-time", "aria-hidden": "true" });

  const root = shell("offline-studio", "x2f-offline",
    h("div", { class: "x2f-picks" },
      h("div", { class: "x2f-pick" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "1 · Who moves"), h("div", { class: "x2f-gallery" }, sources, addSource, sourceFile)),
      h("div", { class: "x2f-pick" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "2 · Who drives"), h("div", { class: "x2f-gallery" }, drivers, addDriver, driverFile)),
      h("div", { class: "x2f-pick x2f-go" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "3 · Go"), animate, length, markLabel)),
    h("div", { class: "x2f-four" }, panel("Source", src), panel("Embedded face", face), panel("Driving", drv), panel("Generated", h("div", {}, gen, hint), "x2f-main")),
    h("div", { class: "x2f-foot" }, status, bar, link),
    h("div", { class: "x2f-bar x2f-player" }, play, seek, time, soundLabel, h("span", { class: "x2f-rule" }), keep, keepAll), video);
  el.append(root);

  // --- playing: one video holds driver and result side by side, so they cannot drift apart
  let alive = true, shown = -1;
  function paint() {
    if (!alive) return;
    requestAnimationFrame(paint);
    if (!video.videoWidth || busy() || video.readyState < 2 || video.currentTime === shown) return;
    shown = video.currentTime;
    const { side, step, top } = model.get("sheet");
    for (const [i, c] of [[1, drv], [2, gen]]) {
      if (c.width !== side) c.width = c.height = side;
      c.getContext("2d").drawImage(video, i * step, top, side, side, 0, 0, side, side);
    }
    if (document.activeElement !== seek || !video.paused) seek.value = 1000 * video.currentTime / (video.duration || 1);
    time.textContent = `${video.currentTime.toFixed(1)} / ${video.duration.toFixed(1)} s`;
  }
  video.addEventListener("play", () => rename(play, "Pause"));
  video.addEventListener("pause", () => rename(play, "Play"));
  video.addEventListener("error", () => { if (video.src) say("This browser cannot play H.264; save the video to see it.", "error"); });

  function load() {
    const bytes = model.get("video");
    if (video.src) { video.pause(); URL.revokeObjectURL(video.src); video.removeAttribute("src"); video.load(); }
    shown = -1;
    if (bytes && bytes.byteLength) {
      video.src = url(bytes, "video/mp4");
      video.muted = !sound.checked;
      video.play().catch(() => {});
    }
    update();
  }

  function update() {
    const done = model.get("video")?.byteLength > 0, [stage, at, of] = model.get("progress");
    root.dataset.state = busy() ? "busy" : done ? "done" : model.get("said").level === "error" ? "error" : "idle";
    rename(animate, busy() ? "Cancel" : "Animate");
    for (const c of [play, seek, sound, keep, keepAll]) c.disabled = busy() || !done;
    for (const c of root.querySelectorAll(".x2f-picks input, .x2f-picks select, .x2f-picks button")) c.disabled = busy() && c !== animate;
    animate.disabled = model.get("chosen") < 0 || model.get("driver") < 0;
    hint.hidden = busy() || done;
    bar.hidden = !busy();
    if (busy() && of) { bar.value = at / of; bar.max = 1; } else bar.removeAttribute("value");
    if (busy() && stage) say(of ? `${stage}: ${at} of ${of} frames` : `${stage} …`);
    if (!done) { time.textContent = ""; seek.value = 0; }
    const seconds = model.get("seconds");
    if (![...length.options].some(o => Number(o.value) === seconds)) length.append(new Option(`First ${seconds} s`, seconds)); // set from Python
    length.value = `${seconds}`;
    mark.checked = model.get("mark");
  }
  const blank = c => c.getContext("2d").clearRect(0, 0, c.width, c.height);

  on("msg:custom", (m, buffers) => {
    if (m.type === "peek" && busy()) { draw(drv, buffers[0]); draw(gen, buffers[1]); }
    if (m.view !== view) return;
    if (m.type === "file") save(link, m.name, buffers[0], m.mime);
    if (m.says) say(m.says, m.level);
  });
  on("change:gallery", () => showSources(model.get("gallery"), model.get("chosen")));
  on("change:chosen", () => { showSources(model.get("gallery"), model.get("chosen")); update(); });
  on("change:drivers", () => showDrivers(model.get("drivers"), model.get("driver")));
  on("change:driver", () => { showDrivers(model.get("drivers"), model.get("driver")); update(); });
  const pictures = () => {
    draw(src, model.get("src")); draw(face, model.get("face"));
    if (!busy() && !model.get("video")?.byteLength) { draw(drv, model.get("drv")); blank(gen); }
  };
  for (const t of ["src", "face", "drv"]) on(`change:${t}`, pictures);
  on("change:video", () => { load(); pictures(); });
  for (const t of ["busy", "progress", "seconds", "mark"]) on(`change:${t}`, update);
  on("change:said", () => { const { text, level } = model.get("said"); if (text) say(text, level); update(); });

  load();
  pictures();
  const said = model.get("said");
  say(said.text, said.level);
  requestAnimationFrame(paint);

  return () => {
    alive = false;
    forget();
    video.pause();
    if (video.src) URL.revokeObjectURL(video.src);
    root.querySelectorAll("img").forEach(i => URL.revokeObjectURL(i.src));
    root.remove();
  };
}

export default { render };
