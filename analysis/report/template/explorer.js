"use strict";

// The attention explorer: a passage and a token of it, the query, seen by one head of one run or by two beside each
// other. Patterns are the lower triangles of all heads of a layer, a byte a weight, in base64.

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A row of radio buttons; `choose` is called with the place of the chosen one.
function choices(id, title, name, labels, chosen, choose) {
  const box = element("fieldset");
  box.dataset.name = name;
  box.append(element("legend", "", title));
  labels.forEach((text, place) => {
    const label = element("label");
    const input = element("input");
    input.type = "radio";
    input.name = `${id}-${name}`;
    input.checked = place === chosen;
    input.addEventListener("change", () => choose(place));
    label.append(input, element("span", "", text));
    box.append(label);
  });
  return box;
}

// New choices in place of the old ones, with the keyboard where it was.
function replaceChoices(controls, boxes) {
  const focused = controls.contains(document.activeElement) && document.activeElement.closest("fieldset").dataset.name;
  controls.replaceChildren(...boxes);
  if (focused) controls.querySelector(`[data-name="${focused}"] input:checked`).focus();
}

const count = (n) => Array.from({ length: n }, (_, place) => String(place + 1));
const unique = (values) => [...new Set(values)];
const visible = (text) => (text === "" ? "⟨end of text⟩" : text.replace(/\n/g, "⏎").replace(/\t/g, "⇥"));
const percent = (share) => `${Math.round(100 * share)} %`;

// One head of one run, and where it looks in the passage. shared: {data, passage, query, pinned}; moved: called after
// the query changed here.
function lookThrough(shared, id, chosen, moved) {
  const { data } = shared;
  const counts = unique(data.runs.map((run) => run.n_head));
  const state = { n_head: chosen, seed: data.runs[0].seed, layer: data.n_layer - 1, head: 0 };
  let weights; // of the chosen passage, run and layer

  const tokens = () => data.passages[shared.passage];
  const seeds = () => data.runs.filter((run) => run.n_head === state.n_head).map((run) => run.seed);
  const run = () => data.runs.find((run) => run.n_head === state.n_head && run.seed === state.seed);
  const label = (place) => visible(tokens()[place]).trim() || "␣";
  const weight = (head, query, key) => {
    const length = tokens().length;
    return weights[head * ((length * (length + 1)) / 2) + (query * (query + 1)) / 2 + key] / 255;
  };

  const view = element("div", "view");
  const controls = element("div", "controls");
  const reading = element("div", "reading");
  const passage = element("div", "passage text");
  const side = element("div", "side");
  const told = element("p", "told");
  const list = element("ol", "looks");
  const heads = element("div", "heads");
  const mapsTitle = element("h3");
  const maps = element("div", "maps");
  passage.tabIndex = 0;
  passage.setAttribute("role", "listbox");
  passage.setAttribute("aria-label", "passage: choose the token to look from");
  passage.classList.toggle("characters", data.characters);
  told.setAttribute("aria-live", "polite");
  side.append(told, list);
  const legend = "A row is a token that looks, a column a token looked at; the darker, the more (shade grows with the square root of the weight). The line is the chosen token.";
  heads.append(mapsTitle, maps, element("p", "legend", legend));
  reading.append(passage, side, heads);
  view.append(controls, reading);

  function drawControls() {
    const choose = (key, values) => (place) => {
      state[key] = values[place];
      draw();
    };
    const of = seeds();
    const boxes = [choices(id, "Heads H", "run", counts.map(String), counts.indexOf(state.n_head), choose("n_head", counts))];
    if (of.length > 1) boxes.push(choices(id, "Seed", "seed", of.map(String), of.indexOf(state.seed), choose("seed", of)));
    const places = [...Array(Math.max(data.n_layer, state.n_head)).keys()];
    boxes.push(choices(id, "Layer", "layer", count(data.n_layer), state.layer, choose("layer", places)));
    boxes.push(choices(id, "Head", "head", count(state.n_head), state.head, choose("head", places)));
    replaceChoices(controls, boxes);
  }

  function drawPassage() {
    const parts = [];
    tokens().forEach((text, place) => {
      const token = element("span", "token");
      token.id = `${id}-token-${place}`;
      token.dataset.place = place;
      token.setAttribute("role", "option");
      token.append(element("span", text === "" ? "special" : "", visible(text)), element("span", "share"));
      parts.push(token);
      if (/\n/.test(text)) parts.push(element("br"));
    });
    passage.replaceChildren(...parts);
  }

  function drawMaps() {
    const length = tokens().length;
    mapsTitle.textContent = `Layer ${state.layer + 1} of H = ${state.n_head}: ${state.n_head === 1 ? "its one head" : "all heads"}`;
    maps.replaceChildren();
    maps.style.setProperty("--map", state.n_head <= 2 ? "13rem" : state.n_head <= 4 ? "8.5rem" : "5.6rem");
    for (let head = 0; head < state.n_head; head++) {
      const button = element("button", "map");
      const box = element("span", "canvas");
      const canvas = element("canvas");
      canvas.width = canvas.height = length;
      const context = canvas.getContext("2d");
      const image = context.createImageData(length, length);
      for (let query = 0; query < length; query++)
        for (let key = 0; key < length; key++) {
          const shade = key > query ? null : Math.sqrt(weight(head, query, key));
          const rgb = shade === null ? [238, 238, 238] : [255 - 245 * shade, 255 - 205 * shade, 255 - 160 * shade];
          image.data.set([...rgb, 255], 4 * (query * length + key));
        }
      context.putImageData(image, 0, 0);
      box.append(canvas, element("span", "row"));
      button.type = "button";
      button.append(box, element("span", "", `head ${head + 1}`));
      button.setAttribute("aria-pressed", head === state.head);
      button.addEventListener("click", () => {
        state.head = head;
        draw();
        maps.children[head].focus();
      });
      maps.append(button);
    }
  }

  function drawQuery() {
    const length = tokens().length;
    const shares = tokens().map((_, key) => (key > shared.query ? 0 : weight(state.head, shared.query, key)));
    passage.classList.toggle("pinned", shared.pinned);
    for (const token of passage.querySelectorAll(".token")) {
      const place = Number(token.dataset.place);
      token.classList.toggle("query", place === shared.query);
      token.classList.toggle("later", place > shared.query);
      token.setAttribute("aria-selected", place === shared.query);
      token.style.backgroundColor = shares[place] ? `hsl(207 85% ${100 - 42 * Math.sqrt(shares[place])}%)` : "";
      token.lastChild.textContent = shares[place] >= 0.015 ? Math.round(100 * shares[place]) : "";
    }
    passage.setAttribute("aria-activedescendant", `${id}-token-${shared.query}`);
    for (const row of maps.querySelectorAll(".row")) row.style.top = `${(100 * (shared.query + 0.5)) / length}%`;
    const order = shares.map((share, key) => [share, key]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const top = order.slice(0, 6).filter(([share]) => share >= 0.005);
    const seed = seeds().length > 1 ? `, seed ${state.seed}` : "";
    told.replaceChildren(
      `From token ${shared.query + 1}, `,
      element("b", "text", label(shared.query)),
      `, head ${state.head + 1} of layer ${state.layer + 1} (H = ${state.n_head}${seed}) looks at:`,
    );
    list.replaceChildren(
      ...top.map(([share, key]) => {
        const item = element("li");
        const back = shared.query - key;
        const bar = element("span", "bar");
        bar.style.width = `${100 * share}%`;
        const row = element("span", "look");
        row.append(
          element("b", "text", label(key)),
          element("span", "back", back === 0 ? "itself" : back === 1 ? "1 back" : `${back} back`),
          element("span", "number", percent(share)),
        );
        item.append(row, bar);
        return item;
      }),
    );
  }

  function draw() {
    if (!run()) state.seed = seeds()[0];
    state.head = Math.min(state.head, state.n_head - 1);
    const packed = atob(run().patterns[shared.passage][state.layer]);
    weights = Uint8Array.from(packed, (c) => c.charCodeAt(0));
    if (passage.dataset.shown !== String(shared.passage)) drawPassage();
    passage.dataset.shown = shared.passage;
    drawControls();
    drawMaps();
    drawQuery();
  }

  const under = (event) => event.target.closest && event.target.closest(".token");
  passage.addEventListener("pointerover", (event) => {
    const token = under(event);
    if (!token || shared.pinned) return;
    shared.query = Number(token.dataset.place);
    moved();
  });
  passage.addEventListener("click", (event) => {
    const token = under(event);
    if (!token) return;
    const place = Number(token.dataset.place);
    shared.pinned = !(shared.pinned && place === shared.query);
    shared.query = place;
    moved();
  });
  passage.addEventListener("keydown", (event) => {
    const last = tokens().length - 1;
    const to = { ArrowLeft: shared.query - 1, ArrowRight: shared.query + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    shared.query = Math.max(0, Math.min(last, to));
    shared.pinned = true;
    moved();
  });
  return { view, draw, drawQuery };
}

function explore(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const counts = unique(data.runs.map((run) => run.n_head));
  const start = (passage) => Math.floor(data.passages[passage].length * 0.6);
  const shared = { data, passage: 0, query: start(0), pinned: false };
  const controls = element("div", "controls");
  const box = element("div", "views");
  const moved = () => shown().forEach((one) => one.drawQuery());
  const first = lookThrough(shared, `${section.id}-a`, counts[Math.floor(counts.length / 2)], moved);
  const second = lookThrough(shared, `${section.id}-b`, counts[counts.length - 1], moved);
  let two = false;
  const shown = () => (two ? [first, second] : [first]);

  function draw() {
    const boxes = [
      choices(section.id, "Passage", "passage", count(data.passages.length), shared.passage, (place) => {
        Object.assign(shared, { passage: place, pinned: false, query: start(place) });
        draw();
      }),
    ];
    if (data.runs.length > 1 || data.runs[0].n_head > 1 || data.n_layer > 1)
      boxes.push(
        choices(section.id, "Heads beside each other", "two", ["one", "two"], Number(two), (place) => {
          two = place === 1;
          draw();
        }),
      );
    replaceChoices(controls, boxes);
    box.classList.toggle("two", two);
    box.replaceChildren(...shown().map((one) => one.view));
    shown().forEach((one) => one.draw());
  }

  section.append(controls, box);
  draw();
}

document.querySelectorAll(".explorer").forEach(explore);
