(() => {
  "use strict";
  const ROWS = 200, STRIP = 16;
  const get = id => document.getElementById(id);
  const data = JSON.parse(get("qc-data").textContent);
  const buffer = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
  const slide = new Uint32Array(buffer(data.slide));
  const tiles = slide.length, rules = data.rules, none = rules.length;
  const count = n => n.toLocaleString("en-US");
  const share = (part, whole) => whole ? (100 * part / whole).toFixed(1) + " %" : "-";
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  for (const rule of rules) {
    rule.values = new Float32Array(buffer(rule.values));
    rule.sorted = rule.values.slice().sort();
    rule.levelled = rule.stops.map(Math.fround);  // as shard compares
    rule.input = get("qc-" + rule.figure);
    rule.input.max = rule.stops.length - 1;
    rule.input.value = rule.now;
    rule.chart = get("qc-" + rule.figure + "-chart");
    drawBars(rule);
    rule.input.addEventListener("input", schedule);
  }

  // How many sorted values lie below a level, or at it too
  function below(sorted, level, too) {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < level || (too && sorted[middle] === level)) low = middle + 1; else high = middle;
    }
    return low;
  }

  // Bar k is dropped by stops beyond it (least: values from stop k to the next) or before it (up to stop k)
  function drawBars(rule) {
    const last = rule.stops.length - 1, space = "http://www.w3.org/2000/svg";
    const edges = rule.levelled.map(level => below(rule.sorted, level, !rule.least));
    const bins = rule.least ? edges.map((edge, k) => (k < last ? edges[k + 1] : tiles) - edge)
                            : edges.map((edge, k) => edge - (k ? edges[k - 1] : 0));
    const top = Math.sqrt(Math.max(1, ...bins));
    rule.chart.setAttribute("viewBox", `${rule.least ? 0 : -1} 0 ${last + 1} 100`);
    // the slider's stops stand below the edges of the bars; one bar lies beyond the last edge or before the first
    const bar = `(100% - 16px) / ${last + 1}`;
    rule.input.style.width = `calc(100% - ${bar})`;
    if (!rule.least) rule.input.style.marginLeft = `calc(${bar})`;
    rule.bars = bins.map((number, k) => {
      const bar = document.createElementNS(space, "rect");
      const height = number ? Math.max(2, 100 * Math.sqrt(number) / top) : 0;
      bar.setAttribute("x", (rule.least ? k : k - 1) + 0.06);
      bar.setAttribute("y", 100 - height);
      bar.setAttribute("width", 0.88);
      bar.setAttribute("height", height);
      rule.chart.append(bar);
      return bar;
    });
  }

  const fails = (rule, value) => rule.least ? !(value >= rule.level) : !(value <= rule.level);
  function reason(values) {
    const place = rules.findIndex((rule, k) => fails(rule, values[k]));
    return place < 0 ? none : place;
  }

  const pictures = data.examples.map(example => {
    const figure = element("figure"), image = element("img");
    image.src = example.picture;
    image.alt = `Tile ${example.x}, ${example.y} of ${data.slides[example.slide]}`;
    image.width = image.height = 112;
    const caption = element("figcaption");
    figure.title = data.slides[example.slide];
    figure.append(image, caption);
    return {figure, caption, example};
  });

  // How far a value is from its threshold: the share of the tiles that lie between
  const distance = (rule, value) =>
    Math.abs(below(rule.sorted, value) - below(rule.sorted, rule.level)) / tiles;

  function drawExamples() {
    const groups = Array.from({length: none + 1}, () => []);
    for (const picture of pictures) {
      const values = picture.example.values, why = reason(values);
      const active = rules.map((rule, k) => rule.active ? distance(rule, values[k]) : 2);
      picture.order = why < none ? active[why] : Math.min(...active);
      picture.caption.textContent = (why < none ? rules[why].reason + ": " : "") + picture.example.shown;
      groups[why].push(picture);
    }
    for (const group of groups) {
      group.sort((a, b) => a.order - b.order);
      group.forEach((picture, place) => { picture.place = place; });
    }
    // one of each reason, then the second of each
    const dropped = groups.slice(0, none).flat().sort((a, b) => a.place - b.place || a.order - b.order);
    [["out", dropped], ["in", groups[none]]].forEach(([id, strip], k) => {
      const nothing = element("p", k ? "None of the examples." : "None of the examples: nothing is as bad.", "soft");
      get("qc-" + id).replaceChildren(...(strip.length ? strip.slice(0, STRIP).map(p => p.figure) : [nothing]));
    });
  }

  function drawReasons(totals) {
    const rows = rules.map((rule, k) => [rule.reason, totals[k]]).concat([["stay", totals[none]]]);
    get("qc-reasons").replaceChildren(...rows.map(([name, number]) => {
      const row = element("div", undefined, "row"), track = element("span", undefined, "track");
      const bar = element("i"), value = element("span", count(number) + " ", "value");
      bar.style.width = (100 * number / tiles).toFixed(2) + "%";
      bar.hidden = !number;
      if (name !== "stay") bar.style.background = "var(--bad)";
      track.append(bar);
      value.append(element("small", share(number, tiles)));
      row.append(element("span", name), track, value);
      return row;
    }));
  }

  function drawSlides(counts) {
    const width = none + 1;
    const rows = data.slides.map((name, s) => {
      const mine = counts.subarray(s * width, (s + 1) * width);
      return {name, mine, all: mine.reduce((a, b) => a + b, 0)};
    }).sort((a, b) => (a.mine[none] / a.all - b.mine[none] / b.all) || (a.name < b.name ? -1 : 1));
    get("qc-slides").replaceChildren(...rows.slice(0, ROWS).map(({name, mine, all}) => {
      const row = element("tr");
      row.append(element("td", name, "text"));
      for (const text of [count(all), count(mine[none]), share(all - mine[none], all)]) row.append(element("td", text));
      for (let k = 0; k < none; k++) row.append(element("td", count(mine[k])));
      return row;
    }));
    get("qc-slides-left").textContent = rows.length > ROWS
      ? `The ${ROWS} slides that lose most; ${count(rows.length - ROWS)} more are not shown.` : "";
  }

  function update() {
    const counts = new Uint32Array(data.slides.length * (none + 1)), totals = new Array(none + 1).fill(0);
    const options = [];
    for (const rule of rules) {
      const stop = Number(rule.input.value), value = rule.stops[stop];
      rule.active = stop !== rule.off;
      rule.level = rule.levelled[stop];
      const words = rule.active ? `${rule.least ? "at least" : "at most"} ${value}` : "off";
      get("qc-" + rule.figure + "-value").textContent = words;
      rule.input.setAttribute("aria-valuetext", words);
      rule.bars.forEach((bar, k) => bar.setAttribute("class", (rule.least ? k < stop : k > stop) ? "out" : "in"));
      const alone = rule.least ? below(rule.sorted, rule.level) : tiles - below(rule.sorted, rule.level, true);
      get("qc-" + rule.figure + "-alone").textContent =
        `By itself it would drop ${count(alone)} tiles, ${share(alone, tiles)}.`;
      if (rule.active) options.push(`${rule.option} ${value}`);
    }
    for (let t = 0; t < tiles; t++) {
      let why = 0;
      while (why < none && !fails(rules[why], rules[why].values[t])) why++;
      counts[slide[t] * (none + 1) + why]++;
      totals[why]++;
    }
    const total = get("qc-total");
    total.replaceChildren(element("b", count(totals[none])), ` of ${count(tiles)} tiles would stay (${share(totals[none], tiles)})`);
    get("qc-command").textContent = options.length ? options.join(" ") : "no option: every tile stays";
    get("qc-copy").disabled = !options.length;
    drawReasons(totals);
    drawExamples();
    drawSlides(counts);
  }

  let waiting = false;
  function schedule() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  }

  const set = stop => { for (const rule of rules) rule.input.value = stop(rule); update(); };
  get("qc-reset").addEventListener("click", () => set(rule => rule.now));
  get("qc-off").addEventListener("click", () => set(rule => rule.off));
  get("qc-copy").addEventListener("click", async () => {
    const button = get("qc-copy");
    try {
      await navigator.clipboard.writeText(get("qc-command").textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(get("qc-command"));
      button.textContent = "Selected: copy it with the keyboard";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  update();
})();
