"use strict";
// Optional: adds values under the pointer, and legends that toggle lines.
const root = document.documentElement;
window.addEventListener("error", (event) => { root.dataset.error = event.message; });

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

function row(kind, name, value) {
  const made = document.createElement("div"), label = document.createElement("span"), number = document.createElement("b");
  made.className = kind;
  label.textContent = name;
  number.textContent = value;
  made.append(label, number);
  return made;
}

for (const chart of document.querySelectorAll(".chart")) {
  const data = JSON.parse(chart.querySelector("script").textContent);
  const drawing = chart.querySelector(".plot > svg"), pointer = chart.querySelector(".pointer");
  const lines = [...drawing.querySelectorAll(".line")], buttons = [...chart.querySelectorAll(".legend button")];
  const over = svg("g", {});
  drawing.append(over);

  buttons.forEach((button, i) => button.addEventListener("click", () => {
    const on = lines[i].classList.toggle("off");
    button.setAttribute("aria-pressed", String(!on));
  }));

  function hide() {
    pointer.hidden = true;
    over.replaceChildren();
  }

  drawing.addEventListener("pointermove", (event) => {
    const place = drawing.getBoundingClientRect(), width = drawing.viewBox.baseVal.width;
    const [x, moment] = nearest(data.moments, ((event.clientX - place.left) / place.width) * width);
    const head = document.createElement("p");
    head.textContent = moment;
    const rows = [head], marks = [svg("path", { class: "rule", d: `M${x} ${data.box.top}V${data.box.bottom}` })];
    lines.forEach((line, i) => {
      if (line.classList.contains("off")) return;
      const [px, py, value] = nearest(data.lines[i], x), kind = `line-${i % 8}${line.classList.contains("dotted") ? " dotted" : ""}`;
      rows.push(row(kind, buttons[i].querySelector("span").textContent, value));
      if (!line.classList.contains("dotted")) marks.push(svg("circle", { class: `mark ${kind}`, cx: px, cy: py, r: 4 }));
    });
    over.replaceChildren(...marks);
    pointer.replaceChildren(...rows);
    pointer.hidden = false;
    const left = (x / width) * place.width, room = place.width - pointer.offsetWidth;
    const wanted = left > place.width / 2 ? left - pointer.offsetWidth - 12 : left + 12;
    pointer.style.left = `${Math.max(0, Math.min(room, wanted))}px`;
  });
  drawing.addEventListener("pointerleave", hide);
}
root.dataset.ready = "yes";
