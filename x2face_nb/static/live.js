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

// What a number means, for whoever points at it.
const MEANING = {
  fps: "Generated frames painted in a second, over the last two seconds",
  p50: "Milliseconds from the camera's frame to its painted answer: half of the frames took less",
  p95: "Milliseconds that nineteen of twenty frames stay below",
  dropped: "Frames that were skipped because a newer one came first; nothing ever queues",
  trust: "How far the last frame can be trusted, from 0 to 1; Options say what happens to doubtful ones",
  capture: "copying and compressing the frame in the browser",
  transport: "from the browser to the kernel and back",
  decode: "unpacking the frame in the kernel",
  crop: "finding and following the face",
  drive: "the driving network",
  warp: "sampling the portrait",
  encode: "compressing the generated frame",
  paint: "unpacking and painting it in the browser",
};

const BUSY = 3000, GIVE_UP = 25000; // milliseconds without an answer: say so, and stop
const READ = 4000; // milliseconds to read what the kernel answered to a button

function render({ model, el }) {
  const view = newId();
  const [on, forget] = listener(model);
  const tell = (content, buffers) => { try { model.send(content, undefined, buffers); return true; } catch { return false; } }; // it throws when the kernel has gone
  const [status, say, release] = statusLine("live-status");

  // --- what is seen
  const camera = h("video", { "data-testid": "live-camera", "aria-label": "Driving video", muted: true, playsInline: true, loop: true });
  const square = h("div", { class: "x2f-square", hidden: true });
  const mirrored = h("div", { class: "x2f-mirror" }, camera, square);
  const generated = canvas("live-generated", "Generated"), face = canvas("live-face", "Embedded face");
  const arrows = h("canvas", { class: "x2f-over", "aria-hidden": "true" }), mesh = h("canvas", { class: "x2f-over", "aria-hidden": "true" });
  const badge = h("div", { class: "x2f-badge", hidden: true }, "REC");
  const idle = h("div", { class: "x2f-idle" }, "Press Start");
  const driving = panel("Driving", h("div", { class: "x2f-cam" }, mirrored, idle), "x2f-driving");

  // --- what is pressed
  const toggle = () => (state === "idle" || state === "stopped" ? begin() : end());
  const start = button("live-start", "Start", toggle, "x2f-primary");
  const driver = h("select", { ...named("live-driver", "Driver"), class: "x2f-select" });
  const useVideo = f => { ownVideo = f; cameras(); driver.value = "file"; titles(); return state === "idle" || state === "stopped" ? begin() : restart(); };
  const [pickVideo, videoFile] = filePicker("live-video", "Video file…", "video/*", false, ([f]) => useVideo(f));
  pickVideo.hidden = true;
  driver.addEventListener("change", () => { titles(); if (driver.value === "file") { cameras(); videoFile.click(); } else restart(); });
  const [question, askPortraits] = portraitQuestion("live-portrait", (kind, files, text) => { say(text); return upload(model, view, kind, files, say); });
  const [addPortrait, portraitFile] = filePicker("live-portrait", "Add portraits", "image/*", true, askPortraits, "x2f-add");
  const choose = i => { if (i < model.get("gallery").length) assign(model, "chosen", i); };
  const [portraits, showPortraits] = gallery("live-portrait", "Portraits", model.get("gallery"), model.get("chosen"), choose, i => tell({ type: "remove", view, of: "portrait", index: i }));
  const [mirrorLabel, mirror] = checkbox("live-mirror", "Mirror", model.get("mirror"), v => assign(model, "mirror", v), "Move as a mirror image would (m)");
  const [flowLabel, flow] = checkbox("live-flow", "Show flow", model.get("show_flow"), v => assign(model, "show_flow", v), "Show from where in the embedded face each place is taken");
  const [markLabel, mark] = checkbox("live-mark", "Mark as generated", model.get("mark"), v => assign(model, "mark", v), "Put the word “generated” on what you save");
  const keep = what => tell({ type: what, view });
  const record = button("live-record", "Record", () => keep(recording ? "stop_recording" : "record"));
  const snapshot = button("live-snapshot", "Snapshot", () => keep("snapshot"));
  const neutral = button("live-neutral", "Neutral", () => keep("neutral"));
  neutral.title = "Look for your face again, and take your pose now as the neutral one (n)";
  const rows = model.get("rows"); // none where a function of one's own takes the place of the networks
  const [options, showOptions] = optionsPanel("live-option", model, rows, say);
  const [full] = fullScreen("live-full", { requestFullscreen: () => root.requestFullscreen() });
  const link = h("a", { "data-testid": "live-download", class: "x2f-link", hidden: true });

  // --- what is measured
  const number = (id, unit, name) => { const b = h("b", { "data-testid": id }, "–"); return [b, h("span", { class: "x2f-number", title: MEANING[name] }, b, h("small", {}, unit))]; };
  const [fps, fpsBox] = number("live-fps", "frames/s", "fps"), [p50, p50Box] = number("live-p50", "ms round trip", "p50"), [p95, p95Box] = number("live-p95", "ms p95", "p95");
  const [dropped, droppedBox] = number("live-dropped", "skipped", "dropped"), [trust, trustBox] = number("live-trust", "trust", "trust");
  const stages = h("div", { "data-testid": "live-stages", class: "x2f-stages", role: "img", "aria-label": "Where the time of a frame goes" });
  const legend = h("div", { class: "x2f-legend", "aria-hidden": "true" });

  const root = shell("live-studio", "Live studio", "x2f-live",
    h("div", { class: "x2f-bar" }, start, driver, pickVideo, videoFile, status, full),
    h("div", { class: "x2f-stage" },
      h("div", { class: "x2f-side" }, driving, panel("Embedded face", h("div", {}, face, mesh))),
      panel("Generated", h("div", {}, generated, arrows, badge), "x2f-main"),
      h("div", { class: "x2f-side x2f-people" },
        h("div", { class: "x2f-part x2f-portraits" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "Portraits"), h("div", { class: "x2f-gallery" }, portraits, addPortrait, portraitFile), question),
        h("div", { class: "x2f-part" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "Look"), h("div", { class: "x2f-row" }, mirrorLabel, flowLabel, neutral), options),
        h("div", { class: "x2f-part" }, h("div", { class: "x2f-title", "aria-hidden": "true" }, "Keep"), h("div", { class: "x2f-row" }, snapshot, record, markLabel), link))),
    h("div", { class: "x2f-ledger" }, h("div", { class: "x2f-numbers" }, fpsBox, p50Box, p95Box, droppedBox, trustBox), h("div", { class: "x2f-where" }, stages, legend)),
    helpLine(["space", "start or stop"], ["n", "neutral"], ["m", "mirror"], ["s", "snapshot"], ["r", "record"], ["1–9", "portraits"]));
  el.append(root);
  release(root);
  dropZone(root, askPortraits, ([f]) => useVideo(f));
  const unkey = keys(root, {
    " ": toggle, n: () => neutral.click(), m: () => mirror.click(), s: () => snapshot.click(), r: () => record.click(),
    ...Object.fromEntries([...Array(9).keys()].map(i => [`${i + 1}`, () => choose(i)])),
  });

  // --- state
  let state = "idle", stream = null, objectUrl = null, ownVideo = null, recording = false, devices = [];
  let seq = 0, waiting = 0, sent = 0, painted = 0, skipped = 0, turn = 0;
  let answered = 0, since = 0, probed = false; // since when an answer is due; whether a frame more was sent to ask for one
  let flying = new Map(), past = [], rounds = [], times = [], sure = null;
  const workerUrl = URL.createObjectURL(new Blob([ENCODER], { type: "text/javascript" })), encoder = new Worker(workerUrl);

  const enter = s => { state = s; root.dataset.state = s; rename(start, s === "idle" || s === "stopped" ? "Start" : "Stop"); for (const b of [record, snapshot, neutral]) b.disabled = s !== "running"; };
  const clear = () => { waiting = sent = painted = skipped = 0; flying = new Map(); past = []; rounds = []; times = []; sure = null; root.dataset.frames = "0"; };

  function cameras() {
    const was = driver.value || model.get("driver");
    const named = devices.filter(d => d.label);
    const offered = named.length > 1 ? named.map(d => [`camera:${d.deviceId}`, d.label]) : [["camera", "Camera"]];
    offered.push(["sample", "Sample video"], ["file", ownVideo ? ownVideo.name : "Video file …"]);
    driver.replaceChildren(...offered.map(([v, t]) => h("option", { value: v }, t)));
    driver.value = offered.some(([v]) => v === was) ? was : offered[0][0];
    titles();
  }

  // "You" is whoever is before a camera; a video has a name.
  function titles() {
    driving.caption.textContent = driver.value.startsWith("camera") ? "You" : driver.value === "sample" ? "Sample video" : ownVideo?.name || "Video file";
    camera.setAttribute("aria-label", driving.caption.textContent);
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

  function letGo() {
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
      letGo();
      enter("stopped");
      say(e.sentence || (kind.startsWith("camera") ? refusal(e) : `The browser cannot play ${kind === "file" ? ownVideo.name : "the sample video"}; choose another (MP4 with H.264 plays everywhere).`), "error");
      return;
    }
    if (mine !== turn) { if (state !== "starting") letGo(); return; }
    idle.hidden = true;
    const ratio = camera.videoWidth / camera.videoHeight * 3 / 4; // the well keeps its shape of 4:3, whatever drives
    const [w, hgt] = [Math.min(1, ratio), Math.min(1, 1 / ratio)].map(x => 100 * x);
    Object.assign(mirrored.style, { width: `${w}%`, height: `${hgt}%`, left: `${50 - w / 2}%`, top: `${50 - hgt / 2}%` });
    since = performance.now(); probed = false;
    enter("running");
    say("Waiting for the first frame …");
    next(mine);
  }

  function end(text = "Stopped.", level = "info") {
    if (state === "idle" || state === "stopped") return;
    turn++;
    letGo();
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
    if (!waiting || flying.size >= model.get("in_flight") + probed || !camera.videoWidth) return;
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
    trip.sent = performance.now();
    if (![...flying.values()].some(t => t !== trip && t.sent)) since = trip.sent;
    sent++;
    const news = skipped - (past.skipped || 0);
    if (!tell({ type: "frame", view, seq: n, past, skipped: news }, [bytes])) return end(GONE, "error");
    past = Object.assign([], { skipped });
  };

  // --- frames in
  async function take(m, buffers) {
    const trip = flying.get(m.seq), came = since = performance.now();
    flying.delete(m.seq);
    probed = false;
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
    sure = m.trust;
    showSquare(m.box);
    showFlow(buffers[1]);
    if (m.stages) showStages(m.stages);
    if (m.says) say(m.says, "warn");
    else if (status.dataset.level !== "info" || painted === 1 || now > answered + READ) say(model.get("hint") || "Live: the portrait follows the driving face.");
  }

  function stats() {
    const now = performance.now(), recent = times.filter(t => t > now - 2000), last = rounds.slice(-Math.max(recent.length, 1));
    const rate = recent.length > 1 ? recent.length / Math.min(2000, now - times[0]) * 1000 : 0; // frames that come in a burst are no rate
    return { fps: rate, p50: quantile(last, .5), p95: quantile(last, .95), dropped: skipped, painted, sent, rounds: [...rounds], times: [...times] };
  }
  root.x2face = { stats, reset: () => { painted = skipped = 0; past = []; rounds = []; times = []; } };

  function showNumbers() {
    const s = stats(), text = x => x === null ? "–" : x.toFixed(0);
    fps.textContent = s.fps ? s.fps.toFixed(1) : "–";
    p50.textContent = text(s.p50); p95.textContent = text(s.p95);
    dropped.textContent = `${s.dropped}`;
    trust.textContent = sure == null ? "–" : sure.toFixed(2);
  }

  function showStages(ms) {
    const total = STAGES.reduce((n, s) => n + (ms[s] || 0), 0);
    const here = STAGES.filter(s => ms[s] !== undefined);
    stages.replaceChildren(...here.map(s => h("i", { class: `x2f-${s}`, style: `flex-grow:${ms[s] / total}`, title: `${s}, ${MEANING[s]}: ${ms[s].toFixed(1)} ms` })));
    legend.replaceChildren(...here.map(s => h("span", { title: MEANING[s] }, h("i", { class: `x2f-${s}` }), `${s} ${ms[s].toFixed(ms[s] < 10 ? 1 : 0)}`)));
    stages.setAttribute("aria-label", `Milliseconds of a frame: ${here.map(s => `${s} ${ms[s].toFixed(1)}`).join(", ")}`);
  }

  function showRecording(on) {
    recording = on;
    answered = on ? Infinity : 0; // its sentence stays as long as it runs
    rename(record, on ? "Stop recording" : "Record");
    record.classList.toggle("x2f-on", on);
    badge.hidden = !on;
  }

  function showSquare(box) {
    square.hidden = !box;
    if (box) Object.assign(square.style, { left: `${100 * box[0]}%`, top: `${100 * box[1]}%`, width: `${100 * (box[2] - box[0])}%`, height: `${100 * (box[3] - box[1])}%` });
  }

  // The sampling grid as a mesh on the embedded face, and as arrows on the generated frame: from where each place took its colour.
  let flowing = false;
  function showFlow(buffer) {
    const wanted = !!buffer && flow.checked;
    if (!wanted && !flowing) return; // measuring and clearing in each frame costs a layout and two uploads
    flowing = wanted;
    const pens = [arrows, mesh].map(c => {
      const side = Math.round(c.clientWidth * (window.devicePixelRatio || 1)), p = c.getContext("2d");
      if (c.width !== side) c.width = c.height = side;
      p.clearRect(0, 0, side, side);
      return [p, side];
    });
    if (!wanted) return;
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
    else if (m.says && m.type !== "frame") {
      if (!recording) answered = performance.now();
      say(m.says, m.level);
    }
  });
  on("change:gallery", () => {
    showPortraits(model.get("gallery"), model.get("chosen"));
    if (!rows.length || model.get("gallery").length) return;
    end("There is no portrait to move; add one.", "error");
    still();
  });
  on("change:chosen", () => showPortraits(model.get("gallery"), model.get("chosen")));
  const still = () => {
    const chosen = model.get("chosen") >= 0;
    if (state !== "running") draw(generated, chosen && model.get("src"));
    draw(face, chosen && model.get("face"));
  };
  for (const t of ["src", "face", "chosen"]) on(`change:${t}`, still);
  const toggles = () => {
    mirror.checked = model.get("mirror"); flow.checked = model.get("show_flow"); mark.checked = model.get("mark");
    mirrored.classList.toggle("x2f-flipped", mirror.checked);
    if (!flow.checked) showFlow(null);
  };
  on("comm_live_update", () => end(GONE, "error"));
  for (const t of ["mirror", "show_flow", "mark"]) on(`change:${t}`, toggles);

  // The silence since the last answer, while one is due. A slow kernel is not silent: each of its answers begins a new count.
  const silence = () => ([...flying.values()].some(t => t.sent) ? performance.now() - since : 0);
  const watch = setInterval(() => {
    showNumbers();
    if (state !== "running" || document.hidden) { since = performance.now(); return; }
    if (silence() > GIVE_UP) end(GONE, "error");
    else if (silence() > BUSY) {
      say(`The kernel is busy or was restarted: no answer for ${Math.round(silence() / 1000)} s …`, "warn");
      if (!probed) { probed = true; leave(); } // once: the message itself may have been lost
    }
  }, 500);

  navigator.mediaDevices?.enumerateDevices?.().then(d => { devices = d.filter(x => x.kind === "videoinput"); cameras(); }).catch(() => {});
  cameras();
  enter("idle");
  toggles();
  on("change:options", showOptions);
  still();
  if (!model.get("gallery").length) root.classList.add("x2f-nobody");
  say(`Press Start, and the driver moves the portrait. ${model.get("hint")}`);

  return () => {
    end();
    unkey();
    clearInterval(watch);
    encoder.terminate();
    URL.revokeObjectURL(workerUrl);
    forget();
    root.querySelectorAll("img").forEach(i => URL.revokeObjectURL(i.src));
    root.remove();
  };
}

export default { render };
