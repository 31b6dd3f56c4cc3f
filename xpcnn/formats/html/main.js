// The page's controls: files come in by a button, a folder, the camera, or dropped; a table goes out.

function show(source) {
  const at = (id) => document.getElementById(id);
  const say = (text) => { at("state").textContent = text; };
  const missing = NEEDED.filter((name) => !(name in window));
  if (missing.length) {
    say(`This browser is too old for this page: it lacks ${missing.join(", ")}. Use a current one.`);
    return;
  }
  const model = JSON.parse(at("model").textContent), { names } = model;
  const runner = new Runner(source, model);
  let pictures = [], done = 0, lastSaid = 0;
  const threshold = () => at("threshold").valueAsNumber || 0;

  function summary() {
    const failed = pictures.filter((picture) => picture.error).length, counts = new Map();
    for (const picture of pictures) {
      const label = picture.label(names, threshold());
      if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    const each = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${printable(label)} ${n.toLocaleString("en")}`);
    if (failed) each.push(`cannot be read ${failed.toLocaleString("en")}`);
    return `${counted(pictures.length, "picture")}: ${each.join(", ")}.`;
  }

  function update() {
    const busy = done < pictures.length;
    Object.assign(at("bar"), { hidden: !busy, max: pictures.length || 1, value: done });
    for (const id of ["save", "clear"]) at(id).disabled = pictures.length === 0;
    if (busy && Date.now() - lastSaid < 1000) return;  // a screen reader reads every change
    lastSaid = Date.now();
    if (busy) say(`${done.toLocaleString("en")} of ${counted(pictures.length, "picture")} read.`);
    else say(pictures.length ? summary() : "");
  }

  function add(files) {
    const added = files.map(([file, path], i) => new Picture(file, path, pictures.length + i));
    pictures.push(...added);
    const here = pictures;
    for (const picture of added) {
      picture.button.addEventListener("click", () => picture.toggleMap(runner, names));
      runner.run({ file: picture.file }).then((result) => {
        if (here !== pictures) return;  // cleared meanwhile
        picture.take(result, names);
        picture.mark(names, threshold());
        done++;
        update();
      });
    }
    at("list").append(...added.map((picture) => picture.line));
    update();
  }

  function clear() {
    runner.clear();
    for (const picture of pictures) if (picture.url) URL.revokeObjectURL(picture.url);
    [pictures, done] = [[], 0];
    at("list").replaceChildren();
    update();
    at("choose").focus();
  }

  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"], ["take", "camera"]]) {
    at(button).addEventListener("click", () => at(input).click());
    at(input).addEventListener("change", ({ target }) => {
      add([...target.files].map((file) => [file, file.webkitRelativePath || file.name]));
      target.value = "";  // so that the same files can be chosen again
    });
  }
  at("choose-folder").hidden = !("webkitdirectory" in at("folder"));
  at("clear").addEventListener("click", clear);
  at("threshold").addEventListener("input", () => {
    for (const picture of pictures) picture.mark(names, threshold());
    update();
  });
  at("save").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([csv(pictures, names, threshold())], { type: "text/csv" }));
    element("a", { href: url, download: "predictions.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) addEventListener(name, () => at("drop").classList.remove("over"));
  addEventListener("drop", async (event) => {
    event.preventDefault();
    add(await dropped(event.dataTransfer));
  });
  update();
}

/** Return the files that were dropped, also those in folders, each with its path; without a file if it is not opened. */
async function dropped({ items }) {
  const given = [...items].filter((item) => item.kind === "file").map((item) => ({  // before the event has ended
    file: item.getAsFile(),
    entry: item.webkitGetAsEntry?.(),
    handle: item.getAsFileSystemHandle?.(),
  }));
  const found = [];
  for (const { file, entry, handle } of given) {
    if (!entry?.isDirectory) found.push([file, file.name]);
    else if (handle) await gatherByHandle(await handle, entry.name, found);
    else await gather(entry, found);
  }
  return found;
}

/** Chromium opens entries only in pages of a server, and handles in all. */
async function gatherByHandle(folder, path, found) {
  for await (const [name, inner] of folder.entries()) {
    if (inner.kind === "directory") await gatherByHandle(inner, `${path}/${name}`, found);
    else found.push([await inner.getFile().catch(() => null), `${path}/${name}`]);
  }
}

async function gather(entry, found) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    found.push([await new Promise((resolve) => { entry.file(resolve, () => resolve(null)); }), path]);
    return;
  }
  const reader = entry.createReader();
  for (;;) {  // a folder comes in parts
    const part = await new Promise((resolve) => { reader.readEntries(resolve, () => resolve(null)); });
    if (!part) found.push([null, path]);
    if (!part?.length) return;
    for (const inner of part) await gather(inner, found);
  }
}

if (typeof document === "undefined") work();
else show(document.currentScript.textContent);
