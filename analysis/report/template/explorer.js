"use strict";

// The attention explorer: passage, H, layer and head are chosen; a token of the passage is the query. Patterns are the
// lower triangles of all heads of a layer, a byte a weight, in base64.

function explore(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const state = { passage: 0, run: 0, layer: 0, head: 0, query: 0, pinned: false };
  let weights; // of the chosen passage, run and layer

  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const tokens = () => data.passages[state.passage].tokens;
  const run = () => data.runs[state.run];
  const weight = (head, query, key) => {
    const length = tokens().length;
    return weights[head * ((length * (length + 1)) / 2) + (query * (query + 1)) / 2 + key] / 255;
  };
  const visible = (text) => (text === "" ? "⟨end of text⟩" : text.replace(/\n/g, "⏎").replace(/\t/g, "⇥"));
  const label = (place) => visible(tokens()[place]).trim() || "␣";
  const percent = (share) => `${Math.round(100 * share)} %`;

  const controls = element("div", "controls");
  const reading = element("div", "reading");
  const passage = element("div", "passage text");
  const side = element("div", "side");
  const told = element("p", "told");
  const list = element("ol", "looks");
  const mapsTitle = element("h3");
  const maps = element("div", "maps");
  passage.tabIndex = 0;
  passage.setAttribute("role", "listbox");
  passage.setAttribute("aria-label", "passage: choose the token to look from");
  told.setAttribute("aria-live", "polite");
  side.append(told, list);
  const legend = element("p", "legend", "A row is a token that looks, a column a token looked at; the darker, the more (shade grows with the square root of the weight). The line is the chosen token.");
  const heads = element("div", "heads");
  heads.append(mapsTitle, maps, legend);
  reading.append(passage, side, heads);
  section.append(controls, reading);

  function choices(title, name, labels, chosen, choose) {
    const box = element("fieldset");
    box.dataset.name = name;
    box.append(element("legend", "", title));
    labels.forEach((text, place) => {
      const label = element("label");
      const input = element("input");
      input.type = "radio";
      input.name = `${section.id}-${name}`;
      input.checked = place === chosen;
      input.addEventListener("change", () => choose(place));
      label.append(input, element("span", "", text));
      box.append(label);
    });
    return box;
  }

  const count = (n) => Array.from({ length: n }, (_, place) => String(place + 1));

  function drawControls() {
    const focused = controls.contains(document.activeElement) && document.activeElement.closest("fieldset").dataset.name;
    controls.replaceChildren(
      choices("Passage", "passage", count(data.passages.length), state.passage, (place) => {
        Object.assign(state, { passage: place, pinned: false });
        state.query = start();
        drawAll();
      }),
      choices("Heads H", "run", data.runs.map((r) => String(r.n_head)), state.run, (place) => {
        state.run = place;
        state.head = Math.min(state.head, run().n_head - 1);
        drawAll();
      }),
      choices("Layer", "layer", count(data.n_layer), state.layer, (place) => {
        state.layer = place;
        drawAll();
      }),
      choices("Head", "head", count(run().n_head), state.head, (place) => {
        state.head = place;
        drawAll();
      }),
    );
    if (focused) controls.querySelector(`[data-name="${focused}"] input:checked`).focus();
  }

  const start = () => Math.floor(tokens().length * 0.6);

  function drawPassage() {
    const parts = [];
    tokens().forEach((text, place) => {
      const token = element("span", "token");
      token.id = `${section.id}-token-${place}`;
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
    mapsTitle.textContent = `Layer ${state.layer + 1} of H = ${run().n_head}: ${run().n_head === 1 ? "its one head" : "all heads"}`;
    maps.replaceChildren();
    maps.style.setProperty("--map", run().n_head <= 2 ? "13rem" : run().n_head <= 4 ? "8.5rem" : "5.6rem");
    for (let head = 0; head < run().n_head; head++) {
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
        drawAll();
        maps.children[head].focus();
      });
      maps.append(button);
    }
  }

  function drawQuery() {
    const length = tokens().length;
    const shares = tokens().map((_, key) => (key > state.query ? 0 : weight(state.head, state.query, key)));
    for (const token of passage.querySelectorAll(".token")) {
      const place = Number(token.dataset.place);
      token.classList.toggle("query", place === state.query);
      token.classList.toggle("later", place > state.query);
      token.setAttribute("aria-selected", place === state.query);
      token.style.backgroundColor = shares[place] ? `hsl(207 85% ${100 - 42 * Math.sqrt(shares[place])}%)` : "";
      token.lastChild.textContent = shares[place] >= 0.015 ? Math.round(100 * shares[place]) : "";
    }
    passage.setAttribute("aria-activedescendant", `${section.id}-token-${state.query}`);
    for (const row of maps.querySelectorAll(".row")) row.style.top = `${(100 * (state.query + 0.5)) / length}%`;
    const order = shares.map((share, key) => [share, key]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const top = order.slice(0, 6).filter(([share]) => share >= 0.005);
    told.replaceChildren(
      `From token ${state.query + 1}, `,
      element("b", "text", label(state.query)),
      `, head ${state.head + 1} of layer ${state.layer + 1} (H = ${run().n_head}) looks at:`,
    );
    list.replaceChildren(
      ...top.map(([share, key]) => {
        const item = element("li");
        const back = state.query - key;
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

  function drawAll() {
    const packed = atob(run().patterns[state.passage][state.layer]);
    weights = Uint8Array.from(packed, (c) => c.charCodeAt(0));
    if (passage.dataset.shown !== String(state.passage)) drawPassage();
    passage.dataset.shown = state.passage;
    drawControls();
    drawMaps();
    drawQuery();
  }

  const under = (event) => event.target.closest && event.target.closest(".token");
  passage.addEventListener("pointerover", (event) => {
    const token = under(event);
    if (!token || state.pinned) return;
    state.query = Number(token.dataset.place);
    drawQuery();
  });
  passage.addEventListener("click", (event) => {
    const token = under(event);
    if (!token) return;
    const place = Number(token.dataset.place);
    state.pinned = !(state.pinned && place === state.query);
    state.query = place;
    passage.classList.toggle("pinned", state.pinned);
    drawQuery();
  });
  passage.addEventListener("keydown", (event) => {
    const last = tokens().length - 1;
    const to = { ArrowLeft: state.query - 1, ArrowRight: state.query + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    state.query = Math.max(0, Math.min(last, to));
    state.pinned = true;
    drawQuery();
  });

  state.run = Math.floor(data.runs.length / 2);
  state.layer = data.n_layer - 1;
  state.query = start();
  drawAll();
}

document.querySelectorAll(".explorer").forEach(explore);
