"use strict";
// What is drawn over the slide, and where: packed arrays, an index by place, and the drawing itself.
// A view is {scale, x, y, width, height}: screen = level-0 * scale + (x, y), in pixels of the canvas.
const Layers = (() => {
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
  const kinds = { i4: Int32Array, i2: Int16Array, u1: Uint8Array, f4: Float32Array };
  const unpack = (text, kind) => new kinds[kind](bytes(text));

  // Squares by place: x, y of their corners, side of each
  class Squares {
    constructor(x, y, side) {
      this.x = x; this.y = y; this.side = side;
      this.bucket = side.reduce((most, one) => Math.max(most, one), 1);
      this.cells = new Map();
      for (let i = 0; i < x.length; i++) {
        const key = this.key(x[i], y[i]);
        const there = this.cells.get(key);
        if (there) there.push(i); else this.cells.set(key, [i]);
      }
      this.lattice = this.findLattice();
    }
    // Columns and rows of a grid without overlap that all lie in; null if there is none
    findLattice() {
      const { x, y, side } = this, step = side[0];
      if (!x.length || !side.every(one => one === step)) return null;
      const low = values => values.reduce((least, one) => Math.min(least, one), Infinity);
      const high = values => values.reduce((most, one) => Math.max(most, one), -Infinity);
      const x0 = low(x), y0 = low(y);
      if (!x.every(one => (one - x0) % step === 0) || !y.every(one => (one - y0) % step === 0)) return null;
      const columns = (high(x) - x0) / step + 1, rows = (high(y) - y0) / step + 1;
      return columns * rows <= 1 << 24 ? { x0, y0, step, columns, rows } : null;
    }
    // A picture with a pixel for each place of the grid: a slide of 100,000 tiles is drawn in one go
    picture(colours, palette) {
      if (this.pictured && this.pictured.colours === colours && this.pictured.palette === palette) return this.pictured.canvas;
      const { x0, y0, step, columns, rows } = this.lattice, canvas = document.createElement("canvas");
      canvas.width = columns; canvas.height = rows;
      const context = canvas.getContext("2d"), data = context.createImageData(columns, rows);
      for (let i = 0; i < this.x.length; i++) {
        if (colours[i] < 0) continue;
        const at = 4 * ((this.y[i] - y0) / step * columns + (this.x[i] - x0) / step), [r, g, b] = palette[colours[i]];
        data.data[at] = r; data.data[at + 1] = g; data.data[at + 2] = b; data.data[at + 3] = 255;
      }
      context.putImageData(data, 0, 0);
      this.pictured = { colours, palette, canvas };
      return canvas;
    }
    key(x, y) { return Math.floor(x / this.bucket) + "," + Math.floor(y / this.bucket); }
    // Numbers of the squares over a point, the last first
    at(x, y) {
      const found = [];
      for (const dx of [0, 1]) for (const dy of [0, 1])
        for (const i of this.cells.get(this.key(x - dx * this.bucket, y - dy * this.bucket)) || [])
          if (x >= this.x[i] && y >= this.y[i] && x < this.x[i] + this.side[i] && y < this.y[i] + this.side[i]) found.push(i);
      return found.sort((a, b) => b - a);
    }
    // Fill those whose colour is not negative; colours: (N,) numbers of a palette of [r, g, b]
    fill(context, view, colours, palette) {
      if (this.lattice) {
        const { x0, y0, step, columns, rows } = this.lattice;
        context.imageSmoothingEnabled = step * view.scale < 1;  // of tiles smaller than a pixel the mean
        const left = Math.round(x0 * view.scale + view.x), top = Math.round(y0 * view.scale + view.y);
        const right = Math.round((x0 + columns * step) * view.scale + view.x), bottom = Math.round((y0 + rows * step) * view.scale + view.y);
        context.drawImage(this.picture(colours, palette), left, top, Math.max(1, right - left), Math.max(1, bottom - top));
        return;
      }
      const { scale } = view, left = -view.x / scale, top = -view.y / scale;
      const right = (view.width - view.x) / scale, bottom = (view.height - view.y) / scale;
      const groups = new Map();
      for (let i = 0; i < this.x.length; i++) {
        if (colours[i] < 0 || this.x[i] > right || this.y[i] > bottom) continue;
        if (this.x[i] + this.side[i] < left || this.y[i] + this.side[i] < top) continue;
        const group = groups.get(colours[i]);
        if (group) group.push(i); else groups.set(colours[i], [i]);
      }
      for (const [colour, members] of groups) {
        context.fillStyle = css(palette[colour]);
        for (const i of members) {
          // whole pixels: neighbours share an edge, and no line shows between them
          const x0 = Math.round(this.x[i] * scale + view.x), x1 = Math.round((this.x[i] + this.side[i]) * scale + view.x);
          const y0 = Math.round(this.y[i] * scale + view.y), y1 = Math.round((this.y[i] + this.side[i]) * scale + view.y);
          context.fillRect(x0, y0, Math.max(1, x1 - x0), Math.max(1, y1 - y0));
        }
      }
    }
    stroke(context, view, which, colour, width) {
      const { scale } = view;
      context.strokeStyle = colour; context.lineWidth = width;
      context.beginPath();
      for (let i = 0; i < this.x.length; i++) {
        if (!which(i)) continue;
        const x = this.x[i] * scale + view.x, y = this.y[i] * scale + view.y, side = this.side[i] * scale;
        if (x > view.width || y > view.height || x + side < 0 || y + side < 0) continue;
        context.rect(Math.round(x) + .5, Math.round(y) + .5, Math.max(1, Math.round(x + side) - Math.round(x) - 1), Math.max(1, Math.round(y + side) - Math.round(y) - 1));
      }
      context.stroke();
    }
  }

  function polygons(context, view, list, colour, width) {
    context.strokeStyle = colour; context.lineWidth = width; context.lineJoin = "round";
    context.beginPath();
    for (const rings of list) for (const ring of rings) {
      for (let i = 0; i < ring.length; i += 2) {
        const x = ring[i] * view.scale + view.x, y = ring[i + 1] * view.scale + view.y;
        if (i) context.lineTo(x, y); else context.moveTo(x, y);
      }
      context.closePath();
    }
    context.stroke();
  }

  const css = ([r, g, b]) => `rgb(${r},${g},${b})`;
  // 256 colours
  const ramp = text => {
    const values = unpack(text, "u1");
    return Array.from({ length: 256 }, (_, i) => [...values.slice(3 * i, 3 * i + 3)]);
  };

  // A column of scores: number of the colour of each tile, -1 of what is not drawn
  class Column {
    constructor(made) {
      this.name = made.name;
      this.classes = made.classes || null;
      this.values = unpack(made.values, this.classes ? "i2" : "f4");
      this.low = made.low; this.high = made.high;
      this.from = made.low; this.to = made.high;
      if (this.classes) {
        this.palette = made.colours;
        this.on = this.classes.map(() => true);
        this.counts = this.classes.map(() => 0);
        for (const code of this.values) if (code >= 0) this.counts[code]++;
      }
    }
    colours() {
      const { values } = this;
      if (this.classes) return Int16Array.from(values, code => code >= 0 && this.on[code] ? code : -1);
      const span = this.high - this.low;
      return Int16Array.from(values, v => v >= this.from && v <= this.to
        ? Math.round(255 * Math.min(1, Math.max(0, (v - this.low) / span))) : -1);  // NaN is neither
    }
    // Counts of values in so many steps from low to high
    histogram(steps) {
      const counts = new Array(steps).fill(0);
      for (const v of this.values) if (v === v)
        counts[Math.min(steps - 1, Math.max(0, Math.floor(steps * (v - this.low) / (this.high - this.low))))]++;
      return counts;
    }
    said(i) {
      const value = this.values[i];
      if (this.classes) return value >= 0 ? this.classes[value] : "none";
      return value === value ? number(value) : "none";
    }
  }

  function number(value) {
    if (Number.isInteger(value)) return value.toLocaleString("en-US");
    const size = Math.abs(value);
    return size >= 1000 || size < .001 ? value.toPrecision(3) : String(+value.toPrecision(4));
  }

  // The longest round length that fits, and what it is: 200 µm, 1 mm; in pixels where no MPP is known
  function scaleBar(most, perPixel, known) {
    const room = most * perPixel, power = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map(n => n * power).find(n => n <= room) || power;
    const text = !known ? `${number(length)} px` : length >= 1000 ? `${number(length / 1000)} mm` : `${number(length)} µm`;
    return { pixels: length / perPixel, text };
  }

  return { unpack, Squares, Column, polygons, ramp, css, number, scaleBar };
})();
