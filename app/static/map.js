// The map of the app: it flies down the zoom path, draws what is said of a photo, and tells what the user did.
// Told apart by lightness too, for those who see no hue; as every sign is by its shape.
const ANSWER = "#D55E00", OTHER = "#F0E442", TRUTH = "#56B4E9", UNSURE = "#333333";
const maps = new WeakMap();
let leaflet = null;

// Leaflet is loaded once, from the app's own tile server.
const load = url => leaflet ??= new Promise((done, failed) =>
  document.head.append(element("script", { src: `${url}/leaflet/leaflet.js`, onload: () => done(window.L), onerror: failed })));

// Everything that comes from outside (names, attribution) is set as text, never as HTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) key in made ? made[key] = value : made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const percent = p => p > 0 && p < .01 ? "< 1 %" : p > .99 && p < 1 ? "> 99 %" : Math.round(p * 100) + " %";
const length = m => m >= 1000 ? Number((m / 1000).toPrecision(3)) + " km" : Math.round(m) + " m";
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let gone = false;
  load(data.static).then(L => {
    if (gone) return;
    let view = maps.get(parentElement);
    if (!view || view.scene.tiles !== data.tiles) {
      view?.remove();
      view = new View(L, parentElement, data);
      maps.set(parentElement, view);
    }
    view.tell = setTriggerValue;
    view.show(data);
  });
  return () => { gone = true; if (!parentElement.host?.isConnected) { maps.get(parentElement)?.remove(); maps.delete(parentElement); } };
}

class View {
  constructor(L, root, scene) {
    this.L = L;
    this.scene = { tiles: scene.tiles };
    this.sides_m = scene.sides_m;
    this.flight = 0;
    this.opacity = .8;
    if (!root.querySelector("link")) root.prepend(element("link", { rel: "stylesheet", href: `${scene.static}/leaflet/leaflet.css` }));
    this.place = root.querySelector(".map");
    this.legend = root.querySelector(".legend");
    this.ladder = root.querySelector(".ladder");
    this.square = L.latLngBounds(scene.region.ring);
    const map = this.map = L.map(this.place, { zoomSnap: .25, minZoom: Math.max(0, scene.min_zoom - 2), maxZoom: scene.max_zoom + 3,
      maxBounds: this.square.pad(1), zoomControl: false });
    map.attributionControl.setPrefix(false);
    map.attributionControl.getContainer().textContent = `${scene.attribution} · drawn with Leaflet`;
    L.tileLayer(scene.tiles, { minNativeZoom: scene.min_zoom, maxNativeZoom: scene.max_zoom, maxZoom: scene.max_zoom + 3,
      bounds: this.square }).addTo(map);
    L.control.scale({ imperial: false }).addTo(map);
    L.control.zoom({ position: "bottomleft" }).addTo(map);
    this.drawn = L.layerGroup().addTo(map);
    this.lit = L.layerGroup().addTo(map);
    this.sketch = L.layerGroup().addTo(map);
    map.createPane("heat").style.zIndex = 300;
    map.on("zoom", () => this.fade());
    map.on("click", event => this.clicked(event));
    this.toolbar();
    this.drawing();
    this.watch = new ResizeObserver(() => { map.invalidateSize(); });
    this.watch.observe(this.place);
    map.fitBounds(this.square);
  }

  remove() { this.flight++; this.watch.disconnect(); this.map.remove(); }

  toolbar() {
    const control = this.L.control({ position: "topright" });
    this.bar = element("div", { className: "bar", role: "toolbar" });
    this.L.DomEvent.disableClickPropagation(this.bar).disableScrollPropagation(this.bar);
    control.onAdd = () => this.bar;
    control.addTo(this.map);
    const slider = element("input", { type: "range", min: 0, max: 100, value: 80, "aria-label": "opacity of the heat layer" });
    slider.oninput = () => { this.opacity = slider.value / 100; this.fade(); };
    this.modes = Object.fromEntries([["area", "Draw area", "drag a rectangle to search in"], ["circle", "Draw circle", "drag from the middle of a rough position outwards"]]
      .map(([mode, words, title]) => [mode, element("button", { type: "button", title, ariaPressed: "false", onclick: () => this.setMode(this.mode === mode ? null : mode) }, words)]));
    this.tools = [element("label", {}, "Heat", slider), this.modes.area, this.modes.circle,
      element("button", { type: "button", title: "fly down the zoom path again", onclick: () => this.fly() }, "Fly again"),
      element("button", { type: "button", title: "the whole region", onclick: () => this.go(this.square) }, "Whole map")];
  }

  setMode(mode) {
    this.mode = mode;
    for (const [name, button] of Object.entries(this.modes)) button.ariaPressed = String(name === mode);
    this.place.classList.toggle("drawing", Boolean(mode));
    this.map.dragging[mode ? "disable" : "enable"]();
  }

  // A rectangle or a circle is dragged with mouse, pen or finger.
  drawing() {
    const { L, map, place } = this;
    let start = null, shape = null;
    place.addEventListener("pointerdown", event => {
      if (!this.mode || this.bar.contains(event.composedPath()[0])) return;
      event.preventDefault();
      event.stopPropagation();
      start = map.mouseEventToLatLng(event);
      place.setPointerCapture(event.pointerId);
    }, true);
    place.addEventListener("pointermove", event => {
      if (!start) return;
      const end = map.mouseEventToLatLng(event);
      this.sketch.clearLayers();
      shape = (this.mode === "area" ? L.rectangle([start, end], hint) : L.circle(start, { ...hint, radius: map.distance(start, end) })).addTo(this.sketch);
    });
    place.addEventListener("pointerup", () => {
      if (start && shape) {
        const bounds = this.mode === "area" ? shape.getBounds() : null;
        const said = bounds ? [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()]
          : [start.lat, start.lng, shape.getRadius()];
        this.tell(this.mode, said);
        this.quiet = Date.now() + 400;  // the click that ends the drag is none
      }
      if (start) this.setMode(null);
      start = shape = null;
    });
  }

  clicked({ latlng }) {
    if (this.mode || !this.scene.photo || Date.now() < (this.quiet ?? 0)) return;
    const middle = this.map.getSize().divideBy(2);
    const metresPerPx = this.map.distance(this.map.containerPointToLatLng(middle), this.map.containerPointToLatLng(middle.add([100, 0]))) / 100;
    const level = Math.max(1, this.sides_m.findLastIndex(side => side / metresPerPx >= 40));
    this.tell("point", { lat: latlng.lat, lon: latlng.lng, level });
  }

  // The posterior says where to look from afar; close by, it must not hide what is there.
  fade() {
    const leafPx = this.sides_m.at(-1) / (40075016.7 * Math.cos(this.square.getCenter().lat * Math.PI / 180) / 256 / 2 ** this.map.getZoom());
    this.map.getPane("heat").style.opacity = this.opacity * Math.min(1, Math.max(.3, 1.2 - leafPx / 60));
  }

  show(scene) {
    const before = this.scene;
    this.scene = scene;
    this.fade();
    this.bar.replaceChildren(...(scene.photo ? this.tools : []));
    this.bar.hidden = !scene.photo;
    this.bar.style.display = scene.photo ? "" : "none";
    this.drawn.clearLayers();
    this.sketch.clearLayers();
    this.explain();
    this.fillLadder();
    this.dots();
    if (!scene.photo) {
      this.lit.clearLayers();
      if (scene.coverage) this.L.imageOverlay(scene.coverage.picture, scene.coverage.bounds, { alt: "coverage" }).addTo(this.drawn);
      this.outline(scene.region.ring, this.drawn, 2);
      const focus = scene.others?.find(other => other.key === scene.focus);
      if (focus && scene.focus !== before.focus) this.go(this.L.latLng(focus.at).toBounds(20 * this.sides_m.at(-1)));
      else if (before.photo) this.go(this.square);
      return;
    }
    this.draw();
    if (scene.photo.key !== before.photo?.key) this.fly();
    else if (!same(scene.answer, before.answer)) { this.light(scene.cells.length - 1); this.go(this.sight()); }
    else if (!same(scene.path, before.path)) {
      this.light(scene.cells.length - 1);
      this.go(same(scene.path, scene.answer_path) ? this.sight() : this.L.latLngBounds(scene.cells.at(-1).ring).pad(.2));
    }
    else this.light(scene.cells.length - 1);
  }

  draw() {
    const { L, scene, drawn } = this;
    if (scene.heat) L.imageOverlay(scene.heat.picture, scene.heat.bounds, { pane: "heat", className: "heat" }).addTo(drawn);
    if (scene.area) { const [west, south, east, north] = scene.area; L.rectangle([[south, west], [north, east]], { ...hint, interactive: false }).addTo(this.sketch); }
    if (scene.circle) { const [lat, lon, radius] = scene.circle; L.circle([lat, lon], { ...hint, radius, interactive: false }).addTo(this.sketch); }
    const { at, heading_deg, located } = scene.answer;
    for (const [radius, dash] of [[scene.answer.radius_90_m, "2 8"], [scene.answer.radius_50_m, null]]) if (radius !== null && located) {
      L.circle(at, { radius, color: "#111", weight: 4, opacity: .5, dashArray: dash, fill: false, interactive: false }).addTo(drawn);
      L.circle(at, { radius, color: "#fff", weight: 2, dashArray: dash, fill: false, interactive: false }).addTo(drawn);
    }
    if (scene.truth) {
      L.polyline([at, scene.truth.at], { color: "#111", weight: 4, opacity: .6, interactive: false }).addTo(drawn);
      L.polyline([at, scene.truth.at], { color: TRUTH, weight: 2, dashArray: "5 5", interactive: false }).addTo(drawn);
      const title = `EXIF position, ${length(scene.truth.away_m)} from the answer`;
      L.marker(scene.truth.at, { icon: L.divIcon({ className: "", html: element("div", { className: "truth" }), iconSize: [16, 16] }),
        title, zIndexOffset: -500 }).addTo(drawn).getElement().ariaLabel = title;
    }
    if (heading_deg !== null && located) L.marker(at, { icon: L.divIcon({ className: "", iconSize: [0, 0],
      html: element("div", { className: "facing", style: `transform: rotate(${heading_deg}deg)` }, element("i")) }), interactive: false, keyboard: false }).addTo(drawn);
    scene.places.forEach((place, rank) => this.pin(place, rank));
  }

  // What the signs on the map mean, of those that are there.
  explain() {
    const { answer, places, truth, heat, others } = this.scene;
    const signs = answer ? [answer.located ? ["first", "the answer"] : ["rank doubtful", "the best guess", "%"], places.length > 1 && ["rank", "the next likeliest", "2"],
      answer.located && ["half", "holds 50 %"], answer.located && ["most", "holds 90 %"], ["cell", "the way down"],
      heat && ["heat", "the brighter, the likelier"], truth && ["truth", "EXIF position"], others?.length && ["other", "another photo"]]
      : others?.length ? [["other", "located"], ["unsure", "uncertain"], ["", "the larger, the surer"]] : [];
    this.legend.replaceChildren(...signs.filter(Boolean).map(([sign, words, text]) =>
      element("li", {}, sign && element("i", { className: sign, ariaHidden: "true" }, text ?? ""), words)));
  }

  // Answers of other photos; the surer, the larger. With the keyboard they are chosen in the list or table beside the
  // map: thousands of stops of the tab key would bar the way there.
  dots() {
    for (const other of this.scene.others ?? []) {
      const focus = other.key === this.scene.focus, unsure = other.located === false;
      const dot = this.L.circleMarker(other.at, { radius: focus ? 11 : 6 + 4 * (other.sure ?? .25), color: focus || unsure ? "#fff" : "#111", weight: focus ? 4 : 2,
        fillColor: focus ? ANSWER : unsure ? UNSURE : OTHER, fillOpacity: 1 })
        .bindTooltip(element("span", {}, other.name)).on("click", () => this.tell("photo", other.key)).addTo(this.drawn);
      dot.getElement().setAttribute("tabindex", "-1");
    }
  }

  pin(place, rank) {
    const { L, scene } = this, first = rank === 0;
    const [lat, lon] = first ? scene.answer.at : place.at;
    const title = `${first ? "answer" : `place ${rank + 1}`}: ${lat.toFixed(6)}, ${lon.toFixed(6)}; ${percent(place.probability)} within ${length(scene.radius_m)}`;
    const label = element("div", { className: `pin${first ? " first" : ""}${scene.answer.located ? "" : " doubtful"}` }, first ? percent(place.probability) : `${rank + 1} · ${percent(place.probability)}`);
    L.circleMarker([lat, lon], { radius: first ? 5 : 4, color: "#111", weight: 2, fillColor: first ? ANSWER : OTHER, fillOpacity: 1, interactive: false }).addTo(this.drawn);
    const pin = L.marker([lat, lon], { icon: L.divIcon({ className: "pin-at", html: label, iconSize: [0, 0], iconAnchor: [0, 14] }), title, zIndexOffset: first ? 1000 : -rank });
    pin.addTo(this.drawn).getElement().ariaLabel = title;
  }

  outline(ring, layer, weight) {
    this.L.polygon(ring, { color: "#fff", weight: weight + 3, opacity: .85, fill: false, interactive: false }).addTo(layer);
    this.L.polygon(ring, { color: ANSWER, weight, fillOpacity: .06, interactive: false }).addTo(layer);
  }

  // The cells of the path down to a level, and the step of the ladder that shows it.
  light(level) {
    this.lit.clearLayers();
    this.scene.cells.slice(0, level + 1).forEach((cell, l) => this.outline(cell.ring, this.lit, l === level ? 4 : 2));
    this.ladder.querySelectorAll(".step.view").forEach((step, l) => step.classList.toggle("lit", l === Math.min(level, this.scene.views.length - 1)));
  }

  sight() {
    const [lat, lon] = this.scene.answer.at, side = this.sides_m.at(-1);
    const reach = Math.min(Math.max(this.scene.answer.radius_50_m ?? 0, side * 3), this.sides_m[0] / 2);
    const sight = this.L.latLng(lat, lon).toBounds(2 * reach);
    if (this.scene.truth) sight.extend(this.scene.truth.at);
    this.sketch.eachLayer(asked => { if (this.square.pad(.2).contains(asked.getBounds())) sight.extend(asked.getBounds()); });
    return sight.pad(.15);
  }

  go(bounds, seconds = .8) {
    this.flight++;
    still() ? this.map.fitBounds(bounds) : this.map.flyToBounds(bounds, { duration: seconds });
  }

  async fly() {
    const flight = ++this.flight, { scene, map } = this, going = () => flight === this.flight;
    map.stop();
    // In a narrow window the map is below what is said in words, and would fly unseen.
    if (this.place.getBoundingClientRect().top > innerHeight * .7) this.place.scrollIntoView({ behavior: still() ? "auto" : "smooth" });
    map.fitBounds(this.square, { animate: false });
    this.light(0);
    if (!still()) for (let level = 1; level < scene.cells.length; level++) {
      await new Promise(done => setTimeout(done, level === 1 ? 500 : 220));
      if (!going()) return;
      this.light(level);
      map.flyToBounds(this.L.latLngBounds(scene.cells[level - 1].ring), { duration: .75 });
      await new Promise(done => setTimeout(done, 800));
      if (!going()) return;
    }
    this.light(scene.cells.length - 1);
    this.go(this.sight());
  }

  fillLadder() {
    const { scene } = this;
    if (!scene.photo) { this.ladder.replaceChildren(); return; }
    const away = !same(scene.path, scene.answer_path);
    const photo = element("div", { className: "step photo" }, element("h4", { title: scene.photo.name }, scene.photo.name),
      element("div", { className: "frame" }, element("img", { src: scene.photo.picture, alt: "the photo" })),
      element("p", {}, away ? "Stepping by hand. " : "What the model saw at each level: click a cell to look into it."));
    if (away) photo.lastChild.append(element("button", { type: "button", className: "back", onclick: () => this.tell("path", scene.answer_path) }, "Back to the answer"));
    this.ladder.replaceChildren(photo, ...scene.views.map((view, level) => this.step(view, level)));
  }

  step(view, level) {
    const { scene } = this, n = scene.branch, rim = 100 * view.rim;
    const grid = element("div", { className: "children", style: `inset: ${rim}%; grid-template: repeat(${n}, 1fr) / repeat(${n}, 1fr)` });
    const most = view.shares ? Math.max(...view.shares, 1e-9) : 1;
    for (let child = 0; child < n * n; child++) {
      const share = view.shares?.[child] ?? null, chosen = child === view.chosen;
      const words = share === null ? "" : `: ${percent(share)} of the probability`;
      const button = element("button", { type: "button", className: chosen ? "chosen" : "", style: `--share: ${share === null ? 0 : share / most}`,
        title: `row ${Math.floor(child / n) + 1}, column ${child % n + 1}${words}`, onclick: () => this.tell("path", [...view.path, child]) },
        share !== null && (chosen || share > .15) ? percent(share) : "");
      button.ariaLabel = `level ${level + 1}, ${button.title}`;
      grid.append(button);
    }
    const share = scene.cells[level].share;
    return element("div", { className: "step view" },
      element("h4", {}, element("button", { type: "button", title: "fly to this cell", onclick: () => { this.light(level); this.go(this.L.latLngBounds(scene.cells[level].ring)); } }, `${level + 1} · ${length(view.side_m)}`)),
      element("div", { className: "frame" }, element("img", { src: view.picture, alt: `overhead view of ${length(view.side_m)}` }), grid),
      element("p", {}, share === null ? "" : `${percent(share)} of the probability`));
  }
}

const hint = { color: "#0072B2", weight: 3, dashArray: "8 5", fillColor: "#56B4E9", fillOpacity: .12 };
