// The lists beside the picture: patients by error, mistakes by kind. A click shows the slice.
const $ = (id) => document.getElementById(id);
const NAMES = { 1: "slices", 2: "boxes", 3: "masks", 4: "types" };

export class Lists {
  constructor({ index, ask, chosen, make, open }) {
    Object.assign(this, { index, ask, chosen, make, open, results: {}, notes: index.notes });
    for (const [tab, other] of [["cases", "mistakes"], ["mistakes", "cases"]]) {
      $(`tab-${tab}`).addEventListener("click", () => this.show(tab, other));
      $(`tab-${tab}`).addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        this.show(other, tab);
        $(`tab-${other}`).focus();
      });
    }
    $("sort").addEventListener("change", () => this.patients());
    $("kind").addEventListener("change", () => this.mistakes());
  }

  show(tab, other) {
    for (const [name, on] of [[tab, true], [other, false]]) {
      $(name).hidden = !on;
      $(`tab-${name}`).setAttribute("aria-selected", String(on));
      $(`tab-${name}`).tabIndex = on ? 0 : -1;
    }
  }

  async load() { // the results of the chosen experiments
    this.results = {};
    const tasks = this.index.kind === "dataset" ? this.index.tasks.filter(({ task }) => this.chosen(task) !== null) : [];
    const found = await Promise.all(tasks.map(({ task }) => this.ask(`results/${task}/${this.chosen(task)}.json`).catch((error) => ({ error }))));
    tasks.forEach(({ task }, number) => { this.results[task] = found[number]; });
    const about = [...this.notes];
    for (const [task, result] of Object.entries(this.results)) {
      about.push(...(result.error ? [`task ${task}: ${result.error.message}`] : result.about.slice(0, 3)));
      if (result.error) delete this.results[task];
    }
    $("notes").replaceChildren(...about.map((line) => this.make("p", line)));
    this.fill($("sort"), [...Object.entries(this.results).map(([task, { measure }]) => [task, `${measure} (task ${task})`]), ["", "name"]]);
    const kinds = Object.entries(this.results).flatMap(([task, { mistakes }]) =>
      [...new Set(mistakes.map((mistake) => mistake[2]))].map((kind) => [`${task} ${kind}`, `${kind} (${NAMES[task]})`]));
    this.fill($("kind"), [["", "all"], ...kinds]);
    $("tab-mistakes").hidden = !kinds.length;
    this.patients();
    this.mistakes();
  }

  fill(select, options) {
    const before = select.value;
    select.replaceChildren(...options.map(([value, text]) => this.make("option", text, { value })));
    if (options.some(([value]) => value === before) && before) select.value = before;
  }

  item(list, number, texts, act) {
    const button = this.make("button", undefined, { type: "button", "data-case": number });
    button.append(...texts);
    button.addEventListener("click", () => { this.at = button; act(); });
    const item = this.make("li");
    item.append(button);
    return item;
  }

  patients() {
    const result = this.results[$("sort").value];
    const known = new Map(result ? result.errors.map(([number, value, words]) => [number, [value, words]]) : []);
    const order = this.index.cases.map((_, number) => number);
    const sign = result?.rising ? -1 : 1;
    if (result) order.sort((a, b) => (known.has(b) - known.has(a)) || sign * ((known.get(a)?.[0] ?? 0) - (known.get(b)?.[0] ?? 0)) || a - b);
    $("case-list").replaceChildren(...order.map((number) => {
      const said = result ? known.get(number)?.[1] ?? "not predicted" : `${this.index.counts[number]} slices`;
      return this.item($("case-list"), number, [this.make("span", this.index.cases[number]), this.make("span", said)], () => this.open(number));
    }));
    this.order = order;
    if (this.current !== undefined) this.mark(this.current);
  }

  mistakes() {
    const [task, kind] = $("kind").value ? [$("kind").value[0], $("kind").value.slice(2)] : [null, null];
    const found = Object.entries(this.results).filter(([of]) => !task || of === task).flatMap(([of, { mistakes }]) =>
      mistakes.filter((mistake) => !kind || mistake[2] === kind).map((mistake) => [of, ...mistake]));
    $("mistake-list").replaceChildren(...found.map(([of, number, slice, what, words]) => this.item($("mistake-list"), number, [
      this.make("span", `${this.index.cases[number]}, slice ${slice + 1}`), this.make("span", what), this.make("small", `task ${of}: ${words}`),
    ], () => { this.choose(); this.open(number, slice); })));
    const all = Object.values(this.results).reduce((sum, { of }) => sum + of, 0);
    $("mistake-count").textContent = `${found.length} of ${all}; the worst of each task first`;
  }

  first() {
    return this.order?.[0] ?? 0;
  }

  choose() { // the mistake that was clicked
    for (const button of $("mistake-list").querySelectorAll("button")) button.setAttribute("aria-current", String(button === this.at));
  }

  mark(number) {
    this.current = number;
    for (const button of $("case-list").querySelectorAll("button")) {
      const here = Number(button.dataset.case) === number;
      button.setAttribute("aria-current", String(here));
      if (here) button.scrollIntoView({ block: "nearest" });
    }
  }

  next(by) { // of the list that is shown
    const list = $("mistakes").hidden ? $("case-list") : $("mistake-list");
    const buttons = [...list.querySelectorAll("button")];
    const at = buttons.findIndex((button) => button.getAttribute("aria-current") === "true");
    const button = buttons[Math.min(buttons.length - 1, Math.max(0, at + by))];
    button?.scrollIntoView({ block: "nearest" });
    button?.click();
  }
}
