"use strict";
(() => {
  const get = id => document.getElementById(id);
  const facts = JSON.parse(get("facts").textContent);
  const { unpack, Squares, Column, polygons, ramp, css, number, scaleBar } = Layers;
  const TISSUE = "#007a43";
  const STATES = [[31, 111, 235], [138, 138, 148], [194, 133, 27], [213, 94, 0], [204, 121, 167], [230, 159, 0], [86, 180, 233]];
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const count = n => n.toLocaleString("en-US");
  const state = { layers: null, tiles: null, scores: null, columns: [], column: null, colours: null, drawn: 0, hover: -1, on: [] };
  const maps = Object.fromEntries(Object.entries(facts.maps).map(([name, text]) => [name, ramp(text)]));

  function problem(text, kind = "problem") {
    const known = [...get("problems").children].some(each => each.textContent === text);
    if (!known) get("problems").append(element("p", text, kind));
  }

  const viewer = OpenSeadragon({
    element: get("slide"), drawer: "canvas", showNavigationControl: false, showNavigator: false,
    tileSources: { Image: {
      xmlns: "http://schemas.microsoft.com/deepzoom/2008", Url: "slide_files/", Format: "jpg",
      Overlap: facts.overlap, TileSize: facts.tile, Size: { Width: facts.width, Height: facts.height } } },
    maxZoomPixelRatio: 4, visibilityRatio: .2, animationTime: .5, zoomPerScroll: 1.3, timeout: 90000,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, imageLoaderLimit: 6,
    gestureSettingsTouch: { pinchRotate: false }, preserveImageSizeOnResize: true,
  });
  // Layers are drawn upright: the keys that turn or flip the picture do nothing
  viewer.addHandler("canvas-key", event => {
    if ("rRfF".includes(event.originalEvent.key)) event.preventDefaultAction = true;
  });
  viewer.addHandler("tile-load-failed", async event => {
    const said = await fetch(event.tile.getUrl()).then(r => r.ok ? "" : r.text(), () => "the viewer's server has ended; start `pathprep view` again");
    if (said) problem(said);
  });

  // Where the slide is, in pixels of the stage
  function place() {
    const item = viewer.world.getItemAt(0);
    if (!item) return null;
    const zero = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const end = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(facts.width, 0));
    return { scale: (end.x - zero.x) / facts.width, x: zero.x, y: zero.y };
  }

  function canvas(id) {
    const made = get(id), ratio = window.devicePixelRatio || 1, box = get("stage").getBoundingClientRect();
    const width = Math.round(box.width * ratio), height = Math.round(box.height * ratio);
    if (made.width !== width || made.height !== height) { made.width = width; made.height = height; }
    const context = made.getContext("2d");
    context.clearRect(0, 0, width, height);
    return { context, ratio, width, height };
  }

  function draw() {
    const at = place();
    if (!at) return;
    const scored = canvas("scores-canvas"), lined = canvas("lines-canvas"), ratio = scored.ratio;
    const view = { scale: at.scale * ratio, x: at.x * ratio, y: at.y * ratio, width: scored.width, height: scored.height };
    if (state.scores && get("show-scores").checked)
      state.scores.fill(scored.context, view, state.colours, state.column.classes ? state.column.palette : maps[get("map").value]);
    const { layers, tiles } = state;
    if (layers && get("show-tiles").checked) {
      const small = layers.side * at.scale < 7, shown = state.on;
      // faint fills show where tiles are dropped, and all tiles where outlines would be a blur
      lined.context.globalAlpha = .35;
      tiles.fill(lined.context, view, filled(small), STATES);
      lined.context.globalAlpha = 1;
      if (!small) layers.states.forEach((_, s) => {
        if (shown[s]) tiles.stroke(lined.context, view, i => layers.state[i] === s, css(STATES[s % STATES.length]), ratio);
      });
    }
    if (layers && get("show-tissue").checked) {
      polygons(lined.context, view, layers.polygons, "#ffffffb0", 4 * ratio);
      polygons(lined.context, view, layers.polygons, TISSUE, 2 * ratio);
    }
    if (state.hover >= 0 && state.over)
      state.over.stroke(lined.context, view, i => i === state.hover, "#000", 2 * ratio);
    const bar = scaleBar(140, (facts.mpp || 1) / at.scale, facts.mpp !== null);
    get("scale-text").textContent = bar.text;
    get("scale-bar").style.width = `${bar.pixels}px`;
  }
  // States that are filled; the same array as long as they are, which is then drawn from its picture
  let fills = { key: "", states: null };
  function filled(small) {
    const { layers } = state, key = `${small} ${state.on}`;
    if (fills.key !== key) fills = { key, states: Int16Array.from(layers.state, s => state.on[s] && (s > 0 || small) ? s % STATES.length : -1) };
    return fills.states;
  }
  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }
  viewer.addHandler("update-viewport", draw);
  for (const event of ["open", "resize", "animation-finish"]) viewer.addHandler(event, redraw);

  // What is under the pointer
  let asked = 0;
  const measured = new Map();
  function rows(list) {
    const made = element("dl");
    for (const [name, value] of list) made.append(element("dt", name), element("dd", value));
    return made;
  }
  function hover(event) {
    const box = get("stage").getBoundingClientRect(), at = place();
    if (!at || event.target.closest("button")) return;
    const x = Math.floor((event.clientX - box.left - at.x) / at.scale), y = Math.floor((event.clientY - box.top - at.y) / at.scale);
    const inside = x >= 0 && y >= 0 && x < facts.width && y < facts.height;
    const place_um = facts.mpp === null ? "" : ` = ${number(+(x * facts.mpp / 1000).toFixed(3))}, ${number(+(y * facts.mpp / 1000).toFixed(3))} mm`;
    get("where").textContent = inside ? `${count(x)}, ${count(y)} px${place_um}` : "";
    const scored = state.scores && get("show-scores").checked ? state.scores.at(x, y) : [];
    const tile = state.tiles && inside ? state.tiles.at(x, y) : [];
    const before = state.hover;
    [state.over, state.hover] = tile.length && get("show-tiles").checked ? [state.tiles, tile[0]]
      : scored.length ? [state.scores, scored[0]] : [state.tiles, tile.length ? tile[0] : -1];
    if (state.hover !== before) redraw();
    const tip = get("tip");
    tip.hidden = !inside || !(scored.length || tile.length);
    if (tip.hidden) { clearTimeout(asked); return; }
    const made = [], first = tile.length ? tile[0] : -1;
    if (scored.length) {
      const i = scored[0];
      made.push(element("b", `Scores at ${count(state.scores.x[i])}, ${count(state.scores.y[i])}`), rows(state.columns.map(one => [one.name, one.said(i)])));
      if (scored.length > 1) made.push(element("small", `${scored.length} tiles overlap here; this one lies on top`));
    }
    if (first >= 0) {
      const { layers } = state, figures = measured.get(first);
      const name = layers.states[layers.state[first]];
      made.push(element("b", layers.state[first] ? `Not a tile: ${name}` : "Tile"));
      const list = [["at", `${count(state.tiles.x[first])}, ${count(state.tiles.y[first])}`]];
      for (const [key, values] of Object.entries(layers.figures)) if (values[first] === values[first]) list.push([key, number(+values[first].toPrecision(4))]);
      if (figures) {
        for (const [key, value] of Object.entries(figures.figures)) list.push([key, number(value)]);
        if (figures.reason) list.push(["a filter would drop it", figures.reason]);
      }
      made.push(rows(list));
      if (!layers.measured && !figures) ask(first, event);
    }
    tip.replaceChildren(...made);
    const room = { x: box.width - tip.offsetWidth - 8, y: box.height - tip.offsetHeight - 8 };
    const left = event.clientX - box.left + 16, top = event.clientY - box.top + 16;
    const flipped = top > room.y ? event.clientY - box.top - tip.offsetHeight - 12 : top;
    tip.style.transform = `translate(${Math.max(8, Math.min(room.x, left))}px, ${Math.max(8, Math.min(room.y, flipped))}px)`;
  }
  // Quality figures are measured when the pointer rests on a tile
  function ask(tile, event) {
    clearTimeout(asked);
    asked = setTimeout(async () => {
      const answer = await fetch(`figures/${state.tiles.x[tile]}_${state.tiles.y[tile]}.json`).catch(() => null);
      if (!answer || !answer.ok) return;
      measured.set(tile, await answer.json());
      if (state.hover === tile || !get("tip").hidden) hover(event);
    }, 250);
  }
  get("stage").addEventListener("pointermove", event => { if (!event.buttons) hover(event); });
  get("stage").addEventListener("pointerup", hover);
  get("stage").addEventListener("pointerleave", () => {
    get("tip").hidden = true; state.hover = -1; clearTimeout(asked); redraw();
  });

  // Lists of classes and of states, each to be turned off
  function toggles(list, names, colours, counts, on, changed) {
    list.replaceChildren(...names.map((name, number_) => {
      const line = element("li"), label = element("label"), box = element("input"), swatch = element("i");
      box.type = "checkbox"; box.checked = on[number_];
      box.addEventListener("change", () => { on[number_] = box.checked; changed(); });
      swatch.style.background = css(colours[number_ % colours.length]);
      label.append(box, swatch, element("span", name), element("span", count(counts[number_]), "count"));
      line.append(label);
      return line;
    }));
  }

  function recolour() {
    const column = state.column;
    state.colours = column.colours();
    state.drawn = state.colours.reduce((sum, one) => sum + (one >= 0), 0);
    get("shown").textContent = `${count(state.drawn)} of ${count(state.scores.x.length)} tiles are shown`;
    get("numbers").hidden = !!column.classes;
    get("classes").hidden = !column.classes;
    if (!column.classes) {
      get("low-text").textContent = number(column.from);
      get("high-text").textContent = number(column.to);
      histogram(column);
    }
    redraw();
  }
  function histogram(column) {
    const made = get("histogram"), context = made.getContext("2d"), steps = 70, wide = made.width / steps;
    const counts = column.histogram(steps), most = Math.max(...counts), ramp_ = maps[get("map").value];
    context.clearRect(0, 0, made.width, made.height);
    counts.forEach((many, i) => {
      const middle = column.low + (column.high - column.low) * (i + .5) / steps;
      context.globalAlpha = middle >= column.from && middle <= column.to ? 1 : .22;
      context.fillStyle = css(ramp_[Math.round(255 * (i + .5) / steps)]);
      const high = many ? 3 + 65 * Math.sqrt(many / most) : 0;
      context.fillRect(i * wide, 70 - high, wide - 1, high);
      context.fillRect(i * wide, 74, wide + .5, 16);
    });
    context.globalAlpha = 1;
  }
  function choose(number_) {
    const column = state.column = state.columns[number_];
    if (column.classes) toggles(get("classes"), column.classes, column.palette, column.counts, column.on, recolour);
    else for (const [id, value] of [["low", column.from], ["high", column.to]])
      get(id).value = Math.round(1000 * (value - column.low) / (column.high - column.low));
    recolour();
  }
  function threshold(id) {
    const column = state.column, other = id === "low" ? "high" : "low";
    if (+get("low").value > +get("high").value) get(other).value = get(id).value;
    const value = input => column.low + (column.high - column.low) * input.value / 1000;
    [column.from, column.to] = [value(get("low")), value(get("high"))];
    // at its ends a slider hides nothing, whatever was rounded
    if (+get("low").value === 0) column.from = -Infinity;
    if (+get("high").value === 1000) column.to = Infinity;
    recolour();
    get("low-text").textContent = number(Math.max(column.low, column.from));
    get("high-text").textContent = number(Math.min(column.high, column.to));
  }
  function opacity() {
    get("scores-canvas").style.opacity = get("opacity").value / 100;
    get("opacity-text").textContent = `${get("opacity").value} %`;
  }

  get("column").addEventListener("change", () => choose(+get("column").value));
  get("map").append(...Object.keys(maps).map(name => element("option", name)));
  get("map").addEventListener("change", recolour);
  for (const id of ["low", "high"]) get(id).addEventListener("input", () => threshold(id));
  get("opacity").addEventListener("input", opacity);
  for (const id of ["show-scores", "show-tiles", "show-tissue"]) get(id).addEventListener("change", redraw);
  get("fold").addEventListener("click", () => {
    const folded = get("panel").classList.toggle("folded");
    get("fold").setAttribute("aria-expanded", String(!folded));
  });
  get("zoom-in").addEventListener("click", () => viewer.viewport.zoomBy(1.6).applyConstraints());
  get("zoom-out").addEventListener("click", () => viewer.viewport.zoomBy(1 / 1.6).applyConstraints());
  get("home").addEventListener("click", () => viewer.viewport.goHome());

  const KEYS = {
    "+": () => get("zoom-in").click(), "=": () => get("zoom-in").click(), "-": () => get("zoom-out").click(), "0": () => get("home").click(),
    s: () => get("show-scores").click(), t: () => get("show-tissue").click(), g: () => get("show-tiles").click(),
    "[": () => step("opacity", -5), "]": () => step("opacity", 5), ",": () => step("low", -20), ".": () => step("low", 20),
  };
  function step(id, by) {
    get(id).value = +get(id).value + by;
    get(id).dispatchEvent(new Event("input"));
  }
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input[type=range]")) return;
    if (get("slide").contains(event.target) && "+=-0".includes(event.key)) return;  // OpenSeadragon's own
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (arrow && !get("slide").contains(event.target)) viewer.viewport.panBy(viewer.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(80 * arrow[0], 80 * arrow[1])));
    else if (KEYS[event.key] && !(["s"].includes(event.key) && !state.scores)) KEYS[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  const size = `${count(facts.width)} × ${count(facts.height)} px`;
  get("facts-text").textContent = facts.mpp === null ? `${size}, no MPP`
    : `${size}, ${+facts.mpp.toPrecision(4)} µm a pixel (${facts.mpp_source}): ${(facts.width * facts.mpp / 1000).toFixed(1)} × ${(facts.height * facts.mpp / 1000).toFixed(1)} mm`;
  opacity();

  async function asJson(name) {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }
  const scored = asJson("scores.json").then(made => {
    if (!made) { get("show-tiles").checked = true; return; }
    state.scores = new Squares(unpack(made.x, "i4"), unpack(made.y, "i4"), unpack(made.side, "i4"));
    state.columns = made.columns.map(one => new Column(one));
    get("column").append(...state.columns.map((one, i) => { const o = element("option", one.name); o.value = i; return o; }));
    get("scores").hidden = false;
    choose(0);
    made.notes.forEach(note => problem(note, "problem note"));
  });
  const found = asJson("layers.json").then(made => {
    if (made.problem) problem(made.problem);
    if (!made.layers) { get("tiles-text").textContent = "No tissue and no tiles: see above."; return; }
    const layers = state.layers = made.layers;
    layers.polygons = layers.polygons.map(rings => rings.map(ring => unpack(ring, "f4")));
    layers.state = unpack(layers.state, "u1");
    layers.figures = Object.fromEntries(Object.entries(layers.figures).map(([name, text]) => [name, unpack(text, "f4")]));
    const x = unpack(layers.x, "i4");
    state.tiles = new Squares(x, unpack(layers.y, "i4"), new Int32Array(x.length).fill(layers.side));
    const counts = layers.states.map((_, s) => layers.state.reduce((sum, one) => sum + (one === s), 0));
    const kept = layers.states.map((_, s) => counts[s] > 0 || s === 0).map((there, s) => there ? s : -1).filter(s => s >= 0);
    state.on = layers.states.map(() => true);
    toggles(get("states"), kept.map(s => layers.states[s]), kept.map(s => STATES[s % STATES.length]), kept.map(s => counts[s]),
      new Proxy(state.on, { get: (on, key) => on[kept[key]], set: (on, key, value) => { on[kept[key]] = value; return true; } }), redraw);
    get("tiles-text").textContent = `${layers.side} px a side, ${layers.source}`;
    layers.notes.forEach(note => problem(note, "problem note"));
    redraw();
  });
  Promise.all([scored, found]).then(() => { document.body.dataset.ready = "1"; }, error => problem(error.message));
})();
