"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const stage = find("stage"), wipe = find("wipe"), divider = find("divider");
  const LEGENDS = {
    granularity: [["#2646b4", "16×16"], ["#28aa5a", "8×8"], ["#f08214", "4×4 pixels per code"]],
    bits: [["#0a0a3c", "0"], ["#781e82", "13"], ["#e6503c", "27"], ["#ffe664", "40 bits per 8×8 pixels"]],
  };
  const MOST = 32, STEP = 1.25, PAN = 40;
  // Of the picture's top left corner in the stage, and screen pixels per picture pixel.
  let x = 0, y = 0, scale = 1, fitted = true;

  const rate = () => Number(document.querySelector("input[name=rate]:checked").value);
  const image = (side) => find("layer-" + side).firstElementChild;
  const source = (name) => name === "original" ? data.original : data.rates[rate()].sources[name];
  const caption = (name) => name === "original" ? name : data.rates[rate()].captions[name];

  function show() {
    for (const side of ["left", "right"]) {
      const name = find(side).value;
      image(side).src = source(name);
      image(side).alt = caption(name);
      find("tag-" + side).textContent = caption(name);
    }
    const overlay = find("overlay").value;
    find("layer-overlay").hidden = !overlay;
    if (overlay) image("overlay").src = data.rates[rate()].overlays[overlay];
    legend(overlay);
    for (const table of document.querySelectorAll(".figures")) {
      table.hidden = Number(table.dataset.rate) !== rate();
    }
  }

  function legend(overlay) {
    const line = find("legend");
    line.hidden = !overlay;
    line.replaceChildren(...(LEGENDS[overlay] || []).flatMap(([colour, text]) => {
      const swatch = document.createElement("b");
      swatch.style.background = colour;
      return [swatch, text];
    }));
  }

  function draw() {
    for (const side of ["left", "right", "overlay"]) {
      image(side).style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    }
    const at = Number(wipe.value);
    find("layer-left").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
    divider.style.left = at + "%";
    stage.classList.toggle("pixels", scale * devicePixelRatio >= 3);
    find("zoom").textContent = Math.round(100 * scale * devicePixelRatio) + " %";
  }

  function size() {
    return [image("left").naturalWidth || 1, image("left").naturalHeight || 1];
  }

  function smallest() {
    const [width, height] = size();
    return Math.min(stage.clientWidth / width, stage.clientHeight / height);
  }

  function keepInside() {
    const held = (value, room, length) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, value));
    const [width, height] = size();
    x = held(x, stage.clientWidth, scale * width);
    y = held(y, stage.clientHeight, scale * height);
  }

  function fit() {
    fitted = true;
    scale = smallest();
    keepInside();
    draw();
  }

  function zoom(factor, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) {
    const before = scale;
    scale = Math.min(MOST, Math.max(smallest(), scale * factor));
    fitted = scale === smallest();
    x = atX - (atX - x) * scale / before;
    y = atY - (atY - y) * scale / before;
    keepInside();
    draw();
  }

  function pan(byX, byY) {
    x += byX;
    y += byY;
    keepInside();
    draw();
  }

  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  // One pointer moves the divider or the picture, two zoom.
  const pointers = new Map();
  let wiping = false;
  stage.addEventListener("pointerdown", (event) => {
    wiping = event.target === divider && !pointers.size;
    pointers.set(event.pointerId, place(event));
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    const others = [...pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const [, other] = others[0];
      const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      zoom(distance(now, other) / distance(before, other),
           (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (wiping) {
      wipe.value = 100 * now[0] / stage.clientWidth;
      draw();
    } else {
      pan(now[0] - before[0], now[1] - before[1]);
    }
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), ...place(event));
  }, {passive: false});
  stage.addEventListener("keydown", (event) => {
    const actions = {
      "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), "Home": fit,
      "ArrowLeft": () => pan(PAN, 0), "ArrowRight": () => pan(-PAN, 0),
      "ArrowUp": () => pan(0, PAN), "ArrowDown": () => pan(0, -PAN),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  });

  find("in").addEventListener("click", () => zoom(STEP));
  find("out").addEventListener("click", () => zoom(1 / STEP));
  find("fit").addEventListener("click", fit);
  find("controls").addEventListener("change", show);
  wipe.addEventListener("input", draw);
  image("left").addEventListener("load", () => { if (fitted) fit(); else draw(); });
  addEventListener("resize", () => { if (fitted) fit(); else { keepInside(); draw(); } });
  show();
  draw();
})();
