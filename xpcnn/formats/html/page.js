// What the page shows: the files that were given, one after the other, and what the worker answers.

const NEEDED = ["Worker", "OffscreenCanvas", "createImageBitmap", "DecompressionStream"];
const UNCERTAIN = "uncertain";
/** How many classes a picture's line names. */
const TOP = 3;

/** Return text with what cannot be seen as escapes, which could otherwise make a name look like another. */
const printable = (text) =>
  text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

const counted = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

/** Return little-endian bytes in base64 as a typed array. */
function unpackedArray(text, Kind) {
  const octets = atob(text), bytes = new Uint8Array(octets.length);
  for (let at = 0; at < octets.length; at++) bytes[at] = octets.charCodeAt(at);
  return new Kind(bytes.buffer);
}

/** Runs tasks in a worker, one at a time. A worker that stops takes the task with it, and another goes on. */
class Runner {
  constructor(source, model) {
    [this.source, this.model, this.waiting, this.task] = [source, model, [], null];
    this.start();
  }

  start() {
    const { spec, weights, numbers } = this.model;
    const arrays = { weights: unpackedArray(weights, Int16Array), numbers: unpackedArray(numbers, Float32Array) };
    this.address ??= URL.createObjectURL(new Blob([this.source], { type: "text/javascript" }));
    this.worker = new Worker(this.address);
    this.ready = false;
    this.worker.onmessage = ({ data }) => {
      if (data.ready) this.ready = true;
      else this.finish(data);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.worker.terminate();
      if (this.ready) this.start();
      else this.broken = "this browser does not let a page from a file compute in the background: use another one";
      this.finish({ error: this.broken ?? "the browser stopped reading it, perhaps for lack of memory" });
    };
    this.worker.postMessage({ spec, ...arrays }, [arrays.weights.buffer, arrays.numbers.buffer]);
  }

  /** Run a task after the others, or before them; return what the worker answers. */
  run(message, first = false) {
    return new Promise((resolve) => {
      this.waiting[first ? "unshift" : "push"]({ message, resolve });
      if (!this.task) this.next();
    });
  }

  clear() {
    this.waiting = [];
  }

  next() {
    this.task = this.waiting.shift() ?? null;
    if (!this.task) return;
    if (this.broken) this.finish({ error: this.broken });
    else this.worker.postMessage(this.task.message);
  }

  finish(result) {
    this.task?.resolve(result);
    this.next();
  }
}

/** One picture: its file, what the network answers, and its line in the list. */
class Picture {
  constructor(file, path, number) {
    [this.file, this.path] = [file, path];
    this.frame = element("div", { className: "frame" });
    this.answer = element("p", { className: "answer", textContent: "waiting" });
    this.others = element("p", { className: "soft" });
    const name = element("bdi", { textContent: printable(path), title: printable(path), id: `name-${number}` });
    this.button = element("button", { type: "button", textContent: "Where it looked", hidden: true });
    this.button.setAttribute("aria-pressed", "false");
    this.button.setAttribute("aria-describedby", name.id);
    const words = element("div", { className: "words" }, element("p", { className: "file" }, name), this.answer, this.others, this.button);
    this.line = element("li", {}, this.frame, words);
  }

  /** Take in what the worker answered. */
  take({ probabilities, picture, error }, names) {
    this.error = error;
    if (!error) {
      this.probabilities = probabilities;
      this.order = probabilities.map((_, label) => label).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
      this.url = URL.createObjectURL(picture);
      this.frame.append(element("img", { src: this.url, alt: "" }));
      this.button.hidden = false;
      const told = (label) => `${printable(names[label])}\u00a0${probabilities[label].toFixed(3)}`;
      this.others.textContent = this.order.slice(1, TOP).map(told).join(", ");
    }
  }

  /** Return the label given the probability below which it is uncertain; empty if there is no answer. */
  label(names, threshold) {
    if (!this.order) return "";
    return this.probabilities[this.order[0]] >= threshold ? names[this.order[0]] : UNCERTAIN;
  }

  /** Write the answer. */
  mark(names, threshold) {
    this.line.classList.toggle("failed", Boolean(this.error));
    if (this.error) this.answer.textContent = `cannot be read: ${this.error}`;
    if (!this.order) return;
    const unsure = this.probabilities[this.order[0]] < threshold;
    this.line.classList.toggle("unsure", unsure);
    const guess = element("b", {}, element("bdi", { textContent: printable(names[this.order[0]]) }));
    const mark = unsure ? [element("span", { className: "mark", textContent: UNCERTAIN })] : [];
    this.answer.replaceChildren(guess, ` ${this.probabilities[this.order[0]].toFixed(3)} `, ...mark);
  }

  /** Show where the network looked, or hide it again. */
  async toggleMap(runner, names) {
    const on = this.button.getAttribute("aria-pressed") !== "true";
    this.button.setAttribute("aria-pressed", String(on));
    if (on && !this.map) {
      const { map, error } = await runner.run({ file: this.file, label: this.order[0] }, true);
      if (error) {
        this.others.textContent = `cannot be shown: ${error}`;
        return;
      }
      this.map = heat(map);
      this.map.setAttribute("role", "img");
      this.map.setAttribute("aria-label", `Bright where the picture spoke most for ${printable(names[this.order[0]])}`);
      this.frame.append(this.map);
    }
    if (this.map) this.map.hidden = this.button.getAttribute("aria-pressed") !== "true";
  }
}

/** Return a canvas in which what counted is bright and warm. */
function heat({ rows, columns, values }) {
  const canvas = element("canvas", { width: columns, height: rows }), image = new ImageData(columns, rows);
  values.forEach((value, at) => image.data.set([255, 60 + 180 * value, 0, 190 * value], 4 * at));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Return rows as CSV, in the columns of ``xpcnn predict --format csv``. */
function csv(pictures, names, threshold) {
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  const rows = pictures.map((picture) => {
    const { order, probabilities: p } = picture;
    if (!order) return [picture.path, "", "", "", picture.error ?? "not yet read", "", ...names.map(() => "")];
    const top = order.slice(0, TOP).map((label) => `${names[label]}=${p[label].toFixed(6)}`).join(";");
    const each = p.map((value) => value.toFixed(6));
    return [picture.path, picture.label(names, threshold), each[order[0]], top, "", names[order[0]], ...each];
  });
  const head = ["path", "label", "probability", "top", "error", "guess", ...names.map((name) => `p:${name}`)];
  return [head, ...rows].map((row) => `${row.map(quoted).join(",")}\n`).join("");
}
