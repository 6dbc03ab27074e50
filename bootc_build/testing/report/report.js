"use strict";
// The viewer: one machine at a time, its console unfolding along its own clock.
const at = (id) => document.getElementById(id);
const panes = ["console", "journal", "screenshot", "monitor", "files"];
const loaded = new Map();
let shown = null; // {machine, rows, times, end, count, failures, test}
let now = 0;
let playing = 0; // the animation frame that is asked for

async function machineOf(number) {
  if (!loaded.has(number)) {
    const packed = atob(at(`machine-${number}`).textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    loaded.set(number, await new Response(plain).json());
  }
  return loaded.get(number);
}

function element(tag, classes, text) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

function row(seconds, classes, parts) {
  const made = element("div", `row ${classes}`);
  made.append(element("span", "", seconds.toFixed(3)));
  const words = element("span");
  for (const [text, style] of parts) {
    words.append(style ? element("span", style, text) : text);
  }
  made.append(words);
  return made;
}

function fill(machine) {
  at("journal").replaceChildren(
    ...machine.journal.map(([seconds, priority, source, text]) =>
      row(seconds, `p${priority}`, [[`${source}: `, "bold"], [text, ""]])));
  const picture = element("img");
  picture.src = `data:image/png;base64,${machine.screenshot}`;
  picture.alt = "the machine's screen";
  at("screenshot").replaceChildren(...(machine.screenshot ? [picture] : []));
  at("monitor").replaceChildren(element("pre", "", machine.monitor));
  at("files").replaceChildren(
    ...machine.files.map(([what, path]) => {
      const line = element("p", "", `${what}: `);
      line.append(element("code", "", path));
      return line;
    }));
  const there = {
    console: machine.lines.length, journal: machine.journal.length, files: machine.files.length,
    screenshot: machine.screenshot, monitor: machine.monitor,
  };
  for (const tab of document.querySelectorAll("[data-tab]")) tab.hidden = !there[tab.dataset.tab];
}

function ticks(machine, end) {
  at("ticks").replaceChildren(
    ...machine.lines.filter(([, kind]) => kind !== "console").map(([seconds, kind, parts]) => {
      const tick = element("i", kind);
      tick.style.left = `${end ? (100 * seconds) / end : 0}%`;
      tick.title = `${seconds.toFixed(1)} s ${parts[0][0]}`;
      return tick;
    }));
}

// The failure of this test; what a console shows of trouble belongs to every test of the machine.
function failuresOf(machine, test) {
  const found = [];
  machine.lines.forEach(([, kind, parts], index) => {
    const text = parts.length ? parts[0][0] : "";
    if (kind === "failure" && (text.startsWith("trouble ") || text.startsWith(`failed: ${test}: `))) found.push(index);
  });
  return found;
}

async function open(number, test) {
  pause();
  const machine = await machineOf(number);
  at("who").textContent = `${machine.name}: ${machine.system} (${machine.shown})`;
  const rows = machine.lines.map(([seconds, kind, parts]) => row(seconds, kind, parts));
  if (machine.begun) {
    rows.forEach((one, index) => {
      one.firstChild.title = new Date(1000 * (machine.begun + machine.lines[index][0])).toLocaleString();
    });
  }
  const times = machine.lines.map(([seconds]) => seconds);
  const end = times.length ? times[times.length - 1] : 0;
  shown = { machine, rows, times, end, count: rows.length, failures: failuresOf(machine, test), test };
  at("console").replaceChildren(...rows);
  at("seek").max = end;
  at("jump").hidden = !shown.failures.length;
  ticks(machine, end);
  fill(machine);
  at("viewer").hidden = false;
  for (const button of document.querySelectorAll("button.machine")) {
    button.classList.toggle("current", button.dataset.machine === String(number) && button.dataset.test === test);
  }
  tab("console");
  seek(end);
  if (shown.failures.length) jump();
}

function tab(name) {
  for (const pane of panes) at(pane).hidden = pane !== name;
  at("player").hidden = name !== "console";
  for (const button of document.querySelectorAll("[data-tab]")) {
    button.setAttribute("aria-selected", String(button.dataset.tab === name));
  }
}

// How many lines have begun by then; they are in the order of their times.
function countAt(seconds) {
  let low = 0;
  let high = shown.times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (shown.times[middle] <= seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}

function seek(seconds) {
  now = Math.min(Math.max(seconds, 0), shown.end);
  const count = now >= shown.end ? shown.rows.length : countAt(now);
  for (let index = shown.count; index < count; index += 1) shown.rows[index].hidden = false;
  for (let index = count; index < shown.count; index += 1) shown.rows[index].hidden = true;
  shown.count = count;
  at("seek").value = now;
  at("clock").textContent = `${now.toFixed(1)} of ${shown.end.toFixed(1)} s`;
}

function pause() {
  if (playing) cancelAnimationFrame(playing);
  playing = 0;
  at("play").textContent = "▶";
}

function play() {
  if (now >= shown.end) seek(0);
  at("play").textContent = "⏸";
  let last = performance.now();
  const step = (stamp) => {
    seek(now + (Math.max(0, stamp - last) / 1000) * Number(at("speed").value));
    last = stamp;
    at("console").scrollTop = at("console").scrollHeight;
    if (now >= shown.end) pause();
    else playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}

function jump() {
  pause();
  tab("console");
  for (const one of at("console").querySelectorAll(".found")) one.classList.remove("found");
  // The last one is the test's own; trouble comes before it.
  const index = shown.failures[shown.failures.length - 1];
  seek(Math.max(shown.times[index], shown.times[Math.max(0, index - 1)]));
  const failure = shown.rows[index];
  failure.classList.add("found");
  failure.scrollIntoView({ block: "center" });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.machine) open(Number(button.dataset.machine), button.dataset.test);
  else if (button.dataset.tab) tab(button.dataset.tab);
  else if (button.id === "play") (playing ? pause : play)();
  else if (button.id === "jump") jump();
  else if (button.id === "close") { pause(); at("viewer").hidden = true; }
});
at("seek").addEventListener("input", () => { pause(); seek(Number(at("seek").value)); });
at("only-bad").addEventListener("change", (event) => document.body.classList.toggle("only-bad", event.target.checked));
document.addEventListener("keydown", (event) => {
  if (!shown || at("viewer").hidden || /^(INPUT|SELECT|BUTTON|SUMMARY)$/.test(event.target.tagName)) return;
  if (event.key === " ") { (playing ? pause : play)(); event.preventDefault(); }
  else if (event.key === "f" && shown.failures.length) jump();
});
const first = document.querySelector(".test.failed button.machine, .test.error button.machine");
if (first) open(Number(first.dataset.machine), first.dataset.test);
