// LiveStudio: the browser's camera, or a video, drives a portrait through the kernel.

function quantile(values, q) {
  if (!values.length) return null;
  const v = [...values].sort((a, b) => a - b), at = (v.length - 1) * q, i = Math.floor(at);
  return v[i] + (v[Math.min(i + 1, v.length - 1)] - v[i]) * (at - i);
}

// Why there is no camera, and what to do.
function refusal(e) {
  const other = " Or drive with the sample video: choose it beside Start.";
  if (e.name === "NotAllowedError" || e.name === "SecurityError") return "The browser was not allowed to use the camera; allow it beside the address bar and press Start again." + other;
  if (e.name === "NotFoundError" || e.name === "OverconstrainedError") return "No camera was found; plug one in and press Start again." + other;
  if (e.name === "NotReadableError" || e.name === "AbortError") return "The camera is in use by another program; close that and press Start again." + other;
  if (e.name === "InsecureOrigin") return "Browsers give the camera only to pages from localhost or over https; open this page that way." + other;
  return `The camera could not be started (${e.message || e.name}).` + other;
}

// Makes a camera frame a JPEG, in a thread of its own: a page's own canvas does so only when the page is idle, and it seldom is.
const ENCODER = `let canvas = new OffscreenCanvas(1, 1), pen = null;
onmessage = async ({ data: { n, frame, w, h } }) => {
  if (!pen || canvas.width !== w || canvas.height !== h) {
    canvas.width = w; canvas.height = h;
    pen = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  }
  pen.drawImage(frame, 0, 0, w, h);
  frame.close();
  const bytes = await (await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 })).arrayBuffer();
  postMessage({ n, bytes }, [bytes]);
};`;

const STAGES = ["capture", "transport", "decode", "crop", "drive", "warp", "encode", "paint"];

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const [on, forget] = listener(model);
  const tell = (content, buffers) => { try { model.send(content, undefined, buffers); return true; } catch { return false; } }; // it throws when the kernel has gone
  const [status, say] = statusLine("live-status");

  // --- what is seen
  const camera = h("video", { "data-testid": "live-camera", "aria-label": "You", muted: true, playsInline: true, loop: true });
  const square = h("div", { class: "x2f-square", hidden: true });
  const mirrored = h("div", { class: "x2f-mirror" }, camera, square);
  const generated = canvas("live-generated", "Generated"), face = canvas("live-face", "Embedded face");
  const arrows = h("canvas", { class: "x2f-over", "aria-hidden": "true" }), mesh = h("canvas", { class: "x2f-over", "aria-hidden": "true" });
  const badge = h("div", { class: "x2f-badge", hidden: true }, "REC");
  const idle = h("div", { class: "x2f-idle" }, "Your camera shows up here");

  // --- what is pressed
  const start = button("live-start", "Start", () => (state === "idle" || state === "stopped" ? begin() : end()), "x2f-primary");
  const driver = h("select", { ...named("live-driver", "Driver"), class: "x2f-select" });
  const [pickVideo, videoFile] = filePicker("live-video", "Video file…", "video/*", false, ([f]) => { ownVideo = f; cameras(); driver.value = "file"; restart(); });
  pickVideo.hidden = true;
  driver.addEventListener("change", () => { if (driver.value === "file") { cameras(); videoFile.click(); } else restart(); });
  const [addPortrait, portraitFile] = filePicker("live-portrait", "Add portrait", "image/*", false, async files => {
    say(`Looking for a face in ${files[0].name} …`);
    await upload(model, view, "portrait", files, say);
  }, "x2f-add");
  const [portraits, showPortraits] = gallery("live-portrait", "Portraits", model.get("gallery"), model.get("chosen"), i => assign(model, "chosen", i));
  const [mirrorLabel, mirror] = checkbox("live-mirror", "Mirror", model.get("mirror"), v => assign(model, "mirror", v));
  const [flowLabel, flow] = checkbox("live-flow", "Show flow", model.get("show_flow"), v => assign(model, "show_flow", v));
  const [markLabel, mark] = checkbox("live-mark", "Mark as generated", model.get("mark"), v => assign(model, "mark", v));
  const record = button("live-record", "Record", () => tell({ type: recording ? "stop_recording" : "record", view }));
  const snapshot = button("live-snapshot", "Snapshot", () => tell({ type: "snapshot", view }));
  const link = h("a", { "data-testid": "live-download", class: "x2f-link", hidden: true });

  // --- what is measured
  const number = (id, unit) => { const b = h("b", { "data-testid": id }, "–"); return [b, h("span", { class: "x2f-number" }, b, h("small", {}, unit))]; };
  const [fps, fpsBox] = number("live-fps", "frames/s"), [p50, p50Box] = number("live-p50", "ms round trip"), [p95, p95Box] = number("live-p95", "ms p95");
  const [dropped, droppedBox] = number("live-dropped", "skipped");
  const stages = h("div", { "data-testid": "live-stages", class: "x2f-stages", role: "img", "aria-label": "Where the time of a frame goes" });
  const legend = h("div", { class: "x2f-legend", "aria-hidden": "true" });

  const root = shell("live-studio", "x2f-live",
    h("div", { class: "x2f-bar" }, start, driver, pickVideo, videoFile, status),
    h("div", { class: "x2f-stage" },
      h("div", { class: "x2f-side" }, panel("You", h("div", { class: "x2f-cam" }, mirrored, idle)), panel("Embedded face", h("div", {}, face, mesh))),
      panel("Generated", h("div", {}, generated, arrows, badge), "x2f-main"),
      h("div", { class: "x2f-side x2f-people" },
        h("div", { class: "x2f-part x2f-portraits" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "Portraits"), h("div", { class: "x2f-gallery" }, portraits, addPortrait, portraitFile)),
        h("div", { class: "x2f-part" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "Look"), mirrorLabel, flowLabel),
        h("div", { class: "x2f-part" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "Keep"), h("div", { class: "x2f-row" }, snapshot, record), markLabel, link))),
    h("div", { class: "x2f-ledger" }, h("div", { class: "x2f-numbers" }, fpsBox, p50Box, p95Box, droppedBox), h("div", { class: "x2f-where" }, stages, legend)));
  el.append(root);

  // --- state
  let state = "idle", stream = null, objectUrl = null, ownVideo = null, recording = false, devices = [];
  let seq = 0, waiting = 0, sent = 0, painted = 0, skipped = 0, turn = 0, answered = 0, lastSent = 0, asked = 0;
  let flying = new Map(), past = [], rounds = [], times = [];
  const workerUrl = URL.createObjectURL(new Blob([ENCODER], { type: "text/javascript" })), encoder = new Worker(workerUrl);

  const enter = s => { state = s; root.dataset.state = s; rename(start, s === "idle" || s === "stopped" ? "Start" : "Stop"); for (const b of [record, snapshot]) b.disabled = s !== "running"; };
  const clear = () => { waiting = sent = painted = skipped = 0; flying = new Map(); past = []; rounds = []; times = []; root.dataset.frames = "0"; };

  function cameras() {
    const was = driver.value || model.get("driver");
    const named = devices.filter(d => d.label);
    const options = named.length > 1 ? named.map(d => [`camera:${d.deviceId}`, d.label]) : [["camera", "Camera"]];
    options.push(["sample", "Sample video"], ["file", ownVideo ? ownVideo.name : "Video file …"]);
    driver.replaceChildren(...options.map(([v, t]) => h("option", { value: v }, t)));
    driver.value = options.some(([v]) => v === was) ? was : options[0][0];
  }

  // --- the driver: camera or video
  async function open(kind) {
    if (kind.startsWith("camera")) {
      if (!navigator.mediaDevices?.getUserMedia) throw Object.assign(new Error(), { name: "InsecureOrigin" });
      const id = kind.split(":")[1];
      stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, ...(id ? { deviceId: { exact: id } } : { facingMode: "user" }) } });
      for (const t of stream.getVideoTracks()) t.addEventListener("ended", () => end("The camera was unplugged or taken away; plug it in and press Start again.", "error"));
      camera.srcObject = stream;
      devices = (await navigator.mediaDevices.enumerateDevices()).filter(d => d.kind === "videoinput");
      cameras();
    } else {
      let bytes = ownVideo;
      if (kind === "sample") {
        say("Fetching the sample video …");
        const sample = reply(model, m => m.type === "sample" && m.view === view, 60000);
        tell({ type: "sample", view });
        const got = await sample;
        if (!got) throw Object.assign(new Error(), { sentence: GONE });
        if (!got.buffers.length) throw Object.assign(new Error(), { sentence: got.says });
        bytes = new Blob([got.buffers[0]], { type: "video/mp4" });
      }
      objectUrl = URL.createObjectURL(bytes);
      camera.src = objectUrl;
    }
    await camera.play();
  }

  function release() {
    stream?.getTracks().forEach(t => t.stop());
    camera.pause();
    camera.srcObject = null;
    camera.removeAttribute("src");
    camera.load();
    if (objectUrl) URL.revokeObjectURL(objectUrl);
    stream = objectUrl = null;
  }

  async function begin() {
    const mine = ++turn, kind = driver.value;
    if (kind === "file" && !ownVideo) { videoFile.click(); return; }
    enter("starting");
    clear();
    say(kind.startsWith("camera") ? "Asking for the camera …" : "Opening the video …");
    try { await open(kind); }
    catch (e) {
      if (mine !== turn) return;
      release();
      enter("stopped");
      say(e.sentence || (kind.startsWith("camera") ? refusal(e) : `The browser cannot play ${kind === "file" ? ownVideo.name : "the sample video"}; choose another (MP4 with H.264 plays everywhere).`), "error");
      return;
    }
    if (mine !== turn) { if (state !== "starting") release(); return; }
    idle.hidden = true;
    mirrored.parentElement.style.aspectRatio = `${camera.videoWidth} / ${camera.videoHeight}`;
    lastSent = answered = performance.now(); asked = 0;
    enter("running");
    say("Waiting for the first frame …");
    next(mine);
  }

  function end(text = "Stopped.", level = "info") {
    if (state === "idle" || state === "stopped") return;
    turn++;
    release();
    showSquare(null);
    showFlow(null);
    showRecording(false);
    idle.hidden = false;
    tell({ type: "stop", view });
    enter("stopped");
    say(text, level);
  }

  async function restart() {
    if (state === "idle" || state === "stopped") return;
    end();
    await begin();
  }

  // --- frames out: paced by the driver, so many in flight, the rest skipped
  const next = mine => camera.requestVideoFrameCallback ? camera.requestVideoFrameCallback(() => tick(mine)) : setTimeout(() => tick(mine), 33);

  function tick(mine) {
    if (mine !== turn) return;
    next(mine);
    if (waiting) skipped++;
    waiting = performance.now();
    leave();
  }

  // The newest frame leaves as soon as there is room for it.
  async function leave() {
    if (!waiting || flying.size >= model.get("in_flight") || !camera.videoWidth) return;
    const began = waiting, n = ++seq, k = Math.min(1, model.get("send_side") / Math.max(camera.videoWidth, camera.videoHeight));
    const [w, height] = [camera.videoWidth, camera.videoHeight].map(x => Math.round(x * k));
    waiting = 0;
    flying.set(n, { began });
    let frame;
    try { frame = window.VideoFrame ? new VideoFrame(camera) : await createImageBitmap(camera); }
    catch { flying.delete(n); skipped++; return; } // between two pictures there may be none
    encoder.postMessage({ n, frame, w, h: height }, [frame]);
  }

  encoder.onmessage = ({ data: { n, bytes } }) => {
    const trip = flying.get(n);
    if (!trip || state !== "running") return;
    trip.sent = lastSent = performance.now();
    sent++;
    const news = skipped - (past.skipped || 0);
    if (!tell({ type: "frame", view, seq: n, past, skipped: news }, [bytes])) return end(GONE, "error");
    past = Object.assign([], { skipped });
  };

  // --- frames in
  async function take(m, buffers) {
    const trip = flying.get(m.seq), came = answered = performance.now();
    flying.delete(m.seq);
    if (!trip || state !== "running") return;
    leave();
    await draw(generated, buffers[0]);
    if (state !== "running") return;
    const now = performance.now(), round = now - trip.began;
    past.push({ capture: trip.sent - trip.began, transport: came - trip.sent - m.ms, paint: now - came, "round trip": round });
    painted++;
    rounds.push(round); times.push(now);
    if (rounds.length > 2000) { rounds.shift(); times.shift(); }
    root.dataset.frames = `${painted}`;
    showSquare(m.box);
    showFlow(buffers[1]);
    if (m.stages) showStages(m.stages);
    if (m.says) say(m.says, "warn");
    else if (status.dataset.level === "warn" || painted === 1) say(model.get("hint"));
  }

  function stats() {
    const now = performance.now(), recent = times.filter(t => t > now - 2000), last = rounds.slice(-Math.max(recent.length, 1));
    const rate = recent.length > 1 ? (recent.length - 1) / (recent.at(-1) - recent[0]) * 1000 : 0;
    return { fps: rate, p50: quantile(last, .5), p95: quantile(last, .95), dropped: skipped, painted, sent, rounds: [...rounds], times: [...times] };
  }
  root.x2face = { stats, reset: () => { painted = skipped = 0; past = []; rounds = []; times = []; } };

  function showNumbers() {
    const s = stats(), text = x => x === null ? "–" : x.toFixed(0);
    fps.textContent = s.fps ? s.fps.toFixed(1) : "–";
    p50.textContent = text(s.p50); p95.textContent = text(s.p95);
    dropped.textContent = `${s.dropped}`;
  }

  function showStages(ms) {
    const total = STAGES.reduce((n, s) => n + (ms[s] || 0), 0);
    const here = STAGES.filter(s => ms[s] !== undefined);
    stages.replaceChildren(...here.map(s => h("i", { class: `x2f-${s}`, style: `flex-grow:${ms[s] / total}`, title: `${s}: ${ms[s].toFixed(1)} ms` })));
    legend.replaceChildren(...here.map(s => h("span", {}, h("i", { class: `x2f-${s}` }), `${s} ${ms[s].toFixed(ms[s] < 10 ? 1 : 0)}`)));
    stages.setAttribute("aria-label", `Milliseconds of a frame: ${here.map(s => `${s} ${ms[s].toFixed(1)}`).join(", ")}`);
  }

  function showRecording(on) {
    recording = on;
    rename(record, on ? "Stop recording" : "Record");
    record.classList.toggle("x2f-on", on);
    badge.hidden = !on;
  }

  function showSquare(box) {
    square.hidden = !box;
    if (box) Object.assign(square.style, { left: `${100 * box[0]}%`, top: `${100 * box[1]}%`, width: `${100 * (box[2] - box[0])}%`, height: `${100 * (box[3] - box[1])}%` });
  }

  // The sampling grid as a mesh on the embedded face, and as arrows on the generated frame: from where each place took its colour.
  function showFlow(buffer) {
    const pens = [arrows, mesh].map(c => {
      const side = Math.round(c.clientWidth * (window.devicePixelRatio || 1)), p = c.getContext("2d");
      if (c.width !== side) c.width = c.height = side;
      p.clearRect(0, 0, side, side);
      return [p, side];
    });
    if (!buffer || !flow.checked) return;
    const g = new Float32Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength)), n = Math.sqrt(g.length / 2);
    const at = (i, j, side) => [(g[2 * (i * n + j)] + 1) / 2 * side, (g[2 * (i * n + j) + 1] + 1) / 2 * side];
    const [[pa, sa], [pm, sm]] = pens;
    pm.lineWidth = Math.max(1, sm / 260); pm.strokeStyle = "rgba(80,255,120,.85)";
    for (const turned of [false, true]) for (let i = 0; i < n; i++) {
      pm.beginPath();
      for (let j = 0; j < n; j++) pm[j ? "lineTo" : "moveTo"](...(turned ? at(j, i, sm) : at(i, j, sm)));
      pm.stroke();
    }
    pa.lineWidth = Math.max(1.2, sa / 220);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
      const [x, y] = [j / (n - 1) * sa, i / (n - 1) * sa], [u, v] = at(i, j, sa), length = Math.hypot(u - x, v - y);
      pa.strokeStyle = pa.fillStyle = `hsla(${Math.atan2(v - y, u - x) * 180 / Math.PI},95%,62%,.9)`;
      pa.beginPath(); pa.moveTo(x, y); pa.lineTo(u, v); pa.stroke();
      pa.beginPath(); pa.arc(x, y, Math.max(1.2, Math.min(length, sa / 110)), 0, 7); pa.fill();
    }
  }

  // --- the kernel speaks
  on("msg:custom", (m, buffers) => {
    if (m.view !== view) return;
    if (m.type === "frame") take(m, buffers);
    else if (m.type === "file") save(link, m.name, buffers[0], m.mime);
    else if (m.type === "recording") showRecording(m.on);
    if (m.type === "refused" && m.of === "frame") end(m.says, "error");
    else if (m.says && m.type !== "frame") say(m.says, m.level);
  });
  on("change:gallery", () => showPortraits(model.get("gallery"), model.get("chosen")));
  on("change:chosen", () => showPortraits(model.get("gallery"), model.get("chosen")));
  const still = () => { if (state !== "running") draw(generated, model.get("src")); draw(face, model.get("face")); };
  on("change:src", still); on("change:face", still);
  const toggles = () => {
    mirror.checked = model.get("mirror"); flow.checked = model.get("show_flow"); mark.checked = model.get("mark");
    mirrored.classList.toggle("x2f-flipped", mirror.checked);
    if (!flow.checked) showFlow(null);
  };
  on("comm_live_update", () => end(GONE, "error"));
  for (const t of ["mirror", "show_flow", "mark"]) on(`change:${t}`, toggles);

  // A kernel that was restarted answers nothing: say so instead of waiting.
  const watch = setInterval(() => {
    showNumbers();
    const now = performance.now();
    if (state !== "running" || document.hidden || answered >= lastSent) { asked = 0; return; }
    asked ||= now;
    if (now - asked > 12000) end(GONE, "error");
    else if (now - asked > 3000) { say("The kernel is busy or was restarted: no answer for some seconds …", "warn"); flying.clear(); leave(); }
  }, 500);

  navigator.mediaDevices?.enumerateDevices?.().then(d => { devices = d.filter(x => x.kind === "videoinput"); cameras(); }).catch(() => {});
  cameras();
  enter("idle");
  toggles();
  still();
  if (!model.get("gallery").length) root.classList.add("x2f-nobody");
  say(`Press Start: your camera drives the portrait. ${model.get("hint")}`);

  return () => {
    end();
    clearInterval(watch);
    encoder.terminate();
    URL.revokeObjectURL(workerUrl);
    forget();
    root.querySelectorAll("img").forEach(i => URL.revokeObjectURL(i.src));
    root.remove();
  };
}

export default { render };
