// OfflineStudio: a portrait, a video, and what becomes of the two.

function render({ model, el }) {
  const view = newId();
  const [on, forget] = listener(model);
  const [status, say, release] = statusLine("offline-status");
  const tell = content => { try { model.send({ ...content, view }); } catch { say(GONE, "error"); } };
  let gone = false; // the kernel
  const busy = () => !gone && model.get("busy"), result = () => (model.get("video")?.byteLength ? model.get("result") : null);
  const remove = of => index => tell({ type: "remove", of, index });

  // --- what is chosen
  const [sources, showSources] = gallery("offline-source", "Portraits", model.get("gallery"), model.get("chosen"), i => assign(model, "chosen", i), remove("portrait"));
  const [drivers, showDrivers] = gallery("offline-driver", "Videos", model.get("drivers"), model.get("driver"), i => assign(model, "driver", i), remove("driver"));
  const [question, askPortraits] = portraitQuestion("offline-source", send);
  const [addSource, sourceFile] = filePicker("offline-source", "Add portraits", "image/*", true, askPortraits, "x2f-add");
  const [addDriver, driverFile] = filePicker("offline-driver", "Add videos", "video/*", true, addVideos, "x2f-add");
  async function addVideos(files) { for (const f of files) if (await send("driver", [f], `Opening ${f.name} …`) === null) return; }
  function send(kind, files, text) { say(text); return upload(model, view, kind, files, say); }

  // --- what is done
  const [markLabel, mark] = checkbox("offline-mark", "Mark as generated", model.get("mark"), v => assign(model, "mark", v), "Put the word “generated” on the video");
  const [options, showOptions] = optionsPanel("offline-option", model, model.get("rows"), say);
  const animate = button("offline-animate", "Animate", () => tell({ type: busy() ? "cancel" : "animate" }), "x2f-primary");
  const bar = h("progress", { "data-testid": "offline-progress", "aria-label": "Progress", max: 1, value: 0 });

  // --- what is seen
  const CELLS = [["offline-source", "Source"], ["offline-face", "Embedded face"], ["offline-driving", "Driving"], ["offline-generated", "Generated"]];
  const [src, face, drv, gen] = CELLS.map(([id, title]) => canvas(id, title));
  const hint = h("div", { class: "x2f-idle" }, "Press Animate");
  const video = h("video", { muted: true, loop: true, playsInline: true, hidden: true });
  const play = button("offline-play", "Play", () => (video.paused ? video.play() : video.pause()));
  const seek = h("input", { ...named("offline-seek", "Position"), type: "range", min: "0", max: "1000", step: "1" });
  seek.addEventListener("input", () => { if (video.duration) video.currentTime = seek.value / 1000 * video.duration; });
  const [soundLabel, sound] = checkbox("offline-sound", "Sound", false, v => { video.muted = !v; });
  const keep = button("offline-save", "Save video", () => tell({ type: "save", which: "generated" }));
  const keepAll = button("offline-save-compare", "Save side by side", () => tell({ type: "save", which: "compare" }));
  const link = h("a", { "data-testid": "offline-download", class: "x2f-link", hidden: true });
  const time = h("span", { class: "x2f-time" });
  const generated = panel("Generated", h("div", {}, gen, hint), "x2f-main");

  const root = shell("offline-studio", "Offline studio", "x2f-offline",
    h("div", { class: "x2f-picks" },
      h("div", { class: "x2f-pick" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "1 · Who moves"), h("div", { class: "x2f-gallery" }, sources, addSource, sourceFile), question),
      h("div", { class: "x2f-pick" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "2 · Who drives"), h("div", { class: "x2f-gallery" }, drivers, addDriver, driverFile)),
      h("div", { class: "x2f-pick x2f-go" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "3 · Go"), animate, markLabel, options)),
    h("div", { class: "x2f-stage" },
      h("div", { class: "x2f-side" }, panel("Source", src), panel("Embedded face", face)), panel("Driving", drv, "x2f-driving"), generated),
    h("div", { class: "x2f-bar x2f-player" }, play, seek, time, soundLabel, h("span", { class: "x2f-rule" }), keep, keepAll, link),
    h("div", { class: "x2f-bar x2f-foot" }, status, bar, fullScreen("offline-full", { requestFullscreen: () => root.requestFullscreen() })[0]),
    helpLine(["space", "play or pause"]), video);
  el.append(root);
  release(root);
  dropZone(root, askPortraits, addVideos);
  const unkey = keys(root, { " ": () => play.click() });
  root.addEventListener("keydown", e => { if (e.key === "Escape") options.open = false; });
  root.addEventListener("pointerdown", e => { if (!options.contains(e.target)) options.open = false; });
  const leaving = e => { if (!root.classList.contains("x2f-notebook") && (busy() || (result() && unsaved))) e.preventDefault(); };
  window.addEventListener("beforeunload", leaving); // what is made goes with a page of its own: ask first
  let unsaved = false;

  // --- playing: one video holds driver and result side by side, so they cannot drift apart
  let alive = true, shown = -1;
  const current = () => { // whether the result is of what is chosen now
    const r = result();
    return !!r && model.get("gallery")[model.get("chosen")]?.key === r.portrait && model.get("drivers")[model.get("driver")]?.key === r.clip;
  };
  function paint() {
    if (!alive) return;
    requestAnimationFrame(paint);
    if (!video.videoWidth || busy() || video.readyState < 2 || video.currentTime === shown) return;
    shown = video.currentTime;
    const { side, step, top } = model.get("sheet");
    for (const [i, c] of [[1, drv], [2, gen]]) {
      if (c === drv && !current()) continue;
      c.turn = (c.turn || 0) + 1; // a still picture that is being unpacked comes too late
      if (c.width !== side) c.width = c.height = side;
      c.getContext("2d").drawImage(video, i * step, top, side, side, 0, 0, side, side);
    }
    if (document.activeElement !== seek || !video.paused) seek.value = 1000 * video.currentTime / (video.duration || 1);
    time.textContent = `${video.currentTime.toFixed(1)} / ${video.duration.toFixed(1)} s`;
  }
  const playing = () => { rename(play, video.paused ? "Play" : "Pause"); play.title = `${video.paused ? "Play" : "Pause"} the generated video`; };
  video.addEventListener("play", playing);
  video.addEventListener("pause", playing);
  video.addEventListener("error", () => { if (video.src) say("This browser cannot play H.264; save the video to see it.", "error"); });

  function load() {
    const bytes = model.get("video");
    if (video.src) { video.pause(); URL.revokeObjectURL(video.src); video.removeAttribute("src"); video.load(); }
    shown = -1;
    link.hidden = true;
    if (bytes && bytes.byteLength) {
      video.src = url(bytes, "video/mp4");
      video.muted = !sound.checked;
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) video.play().catch(() => {});
    }
    playing();
    update();
  }

  function update() {
    const r = result(), [stage, at, of] = model.get("progress");
    root.dataset.state = busy() ? "busy" : model.get("said").level === "error" ? "error" : r ? "done" : "idle";
    rename(animate, busy() ? "Cancel" : "Animate");
    animate.title = busy() ? "Stop; the video that was there stays" : "Make the chosen portrait move as in the chosen video";
    for (const c of [play, seek, sound, keep, keepAll]) c.disabled = busy() || !r;
    for (const c of root.querySelectorAll(".x2f-picks :is(input, select, button)")) c.disabled = busy() && c !== animate;
    animate.disabled = !busy() && (model.get("chosen") < 0 || model.get("driver") < 0);
    hint.hidden = busy() || !!r;
    generated.caption.textContent = busy() || !r ? "Generated" : `Generated: ${r.title}`;
    keep.title = r ? `Save ${r.generated}` : "";
    keepAll.title = r ? `Save ${r.compare}: source, driving and generated frame` : "";
    bar.hidden = !busy();
    if (busy() && of) { bar.value = at / of; bar.max = 1; } else bar.removeAttribute("value");
    if (busy() && stage) say(of ? `${stage}: ${at} of ${of} frames` : `${stage} …`);
    if (!r) { time.textContent = ""; seek.value = 0; }
    mark.checked = model.get("mark");
    const doubt = (r?.trust || []).map(t => `rgb(210 40 40 / ${Math.min(1, Math.max(0, 1.5 - t / r.low)).toFixed(2)})`);
    seek.style.backgroundImage = doubt.length ? `linear-gradient(to right, ${[doubt[0], ...doubt].join(", ")})` : "";
    seek.title = doubt.length ? "Position; red where a frame is likely wrong" : "";
  }
  const blank = c => c.getContext("2d").clearRect(0, 0, c.width, c.height);

  on("msg:custom", (m, buffers) => {
    if (m.type === "peek" && busy()) { draw(drv, buffers[0]); draw(gen, buffers[1]); }
    if (m.view !== view) return;
    if (m.type === "file") { save(link, m.name, buffers[0], m.mime); unsaved = false; }
    if (m.says) say(m.says, m.level);
  });
  const pictures = () => {
    const chosen = model.get("chosen") >= 0;
    draw(src, chosen && model.get("src")); draw(face, chosen && model.get("face"));
    if (busy()) return;
    shown = -1; // the player paints again
    if (!current()) draw(drv, model.get("driver") >= 0 && model.get("drv"));
    if (!result()) blank(gen);
  };
  const choice = () => { showSources(model.get("gallery"), model.get("chosen")); showDrivers(model.get("drivers"), model.get("driver")); update(); pictures(); };
  for (const t of ["gallery", "chosen", "drivers", "driver", "src", "face", "drv"]) on(`change:${t}`, choice);
  on("change:video", () => { unsaved = true; load(); pictures(); });
  on("change:result", update);
  on("change:busy", () => { update(); pictures(); });
  for (const t of ["progress", "mark"]) on(`change:${t}`, update);
  on("change:options", showOptions);
  on("change:said", () => { const { text, level } = model.get("said"); if (text) say(text, level); update(); });
  on("comm_live_update", () => { gone = true; say(GONE, "error"); update(); });

  load();
  pictures();
  const said = model.get("said");
  say(said.text, said.level);
  requestAnimationFrame(paint);

  return () => {
    alive = false;
    unkey();
    window.removeEventListener("beforeunload", leaving);
    forget();
    video.pause();
    if (video.src) URL.revokeObjectURL(video.src);
    root.querySelectorAll("img").forEach(i => URL.revokeObjectURL(i.src));
    root.remove();
  };
}

export default { render };
