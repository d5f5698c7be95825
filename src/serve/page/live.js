// What happens now: the run under way, and a fresh page when something was recorded.
const live = { run: null, running: new Map(), done: 0, failed: [], total: 0 };

const drawLive = () => {
  const box = $("live");
  if (!live.run) { box.hidden = true; return; }
  const ended = live.ended;
  box.className = "live" + (ended ? (live.failed.length || ended.failed ? " failed" : " done") : "");
  const rows = [...live.running.values()].map((stage) => {
    const share = stage.total ? stage.done / stage.total : stage.expected ? Math.min(0.99, (Date.now() - stage.since) / 1000 / stage.expected) : null;
    return h("li", {}, h("b", {}, stage.stage), share === null ? h("progress", { "aria-label": stage.stage }) : h("progress", { max: 1, value: share, "aria-label": stage.stage }), h("span", { class: "muted" }, (stage.unit ? stage.done.toLocaleString("en") + (stage.total ? " of " + stage.total.toLocaleString("en") : "") + " " + stage.unit + ", " : "") + seconds((Date.now() - stage.since) / 1000)));
  });
  const title = ended ? "Run " + live.run + " ended: " + plural(ended.executed, "stage") + " executed, " + ended.failed + " failed, in " + seconds(ended.seconds) : "Run " + live.run + ": " + live.done + " of " + plural(live.total, "stage") + " done";
  box.replaceChildren(h("div", {}, ended ? link(to("run", live.run), title) : h("b", {}, title), rows.length > 0 && h("ul", {}, rows), live.failed.map((stage) => h("p", { class: "bad" }, stage.stage + " failed: " + stage.error.split("\n")[0]))));
  box.hidden = false;
};

const happened = (event) => {
  const stage = live.running.get(event.stage);
  switch (event.event) {
    case "run_started": Object.assign(live, { run: event.run, running: new Map(), done: 0, failed: [], total: event.stages, ended: null }); break;
    case "stage_started": live.running.set(event.stage, { stage: event.stage, since: Date.parse(event.at) || Date.now(), expected: event.expected, done: 0, total: 0, unit: "" }); break;
    case "stage_progress": if (stage) Object.assign(stage, { done: event.done, total: event.total, unit: event.unit }); break;
    case "stage_finished": live.running.delete(event.stage); live.done++; break;
    case "stage_failed": if (!event.retry) { live.running.delete(event.stage); live.failed.push(event); } break;
    case "run_finished": live.running.clear(); live.ended = event; break;
  }
  drawLive();
};

const busy = (is) => {
  const state = $("state");
  state.className = is ? "busy" : "";
  state.textContent = is ? "a run is under way" : "";
  if (!is && live.run && !live.ended) { live.run = null; drawLive(); }
};

const follow = (recorded) => {
  const source = new EventSource("/api/events");
  const later = wait(recorded, 300);
  source.addEventListener("hello", (event) => busy(JSON.parse(event.data).busy));
  source.addEventListener("run", (event) => happened(JSON.parse(event.data)));
  source.addEventListener("history", (event) => { busy(JSON.parse(event.data).busy); later(); });
  source.onerror = () => { $("state").className = "lost"; $("state").textContent = "no connection"; };
  setInterval(() => { if (live.running.size) drawLive(); }, 1000);
};
