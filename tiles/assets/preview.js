"use strict";
// Names and attributions come from imagery: they become text, never markup.
const element = id => document.getElementById(id);
const ACCENT = "#d55e00", OUTLINE = { color: "#0b57a4", weight: 1.5, fill: false, interactive: false };
const map = L.map("map", { attributionControl: false }).fitWorld();
const attribution = L.control.attribution({ prefix: false }).addTo(map);
L.control.scale({ imperial: false }).addTo(map);
const grid = L.layerGroup().addTo(map);
let chosen = null, layer = null;

const where = L.control({ position: "bottomright" });
where.onAdd = () => L.DomUtil.create("div", "where");
where.addTo(map);
map.on("mousemove", ({ latlng }) => {
  const { lat, lng } = latlng.wrap();
  where.getContainer().textContent = `lat ${lat.toFixed(5)}, lon ${lng.toFixed(5)} · zoom ${map.getZoom()}`;
});

const notice = L.control({ position: "topright" });
notice.onAdd = () => L.DomUtil.create("div", "notice");
function warn(text) {
  notice.addTo(map).getContainer().textContent = text;
}

async function json(url) {
  const answer = await fetch(url);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

const latLngBounds = ([west, south, east, north]) => L.latLngBounds([south, west], [north, east]);
const address = source => encodeURIComponent(source.name);
const length = metres => metres >= 1000 ? `${Number((metres / 1000).toPrecision(3))} km` : `${Number(metres.toPrecision(3))} m`;
const plain = markup => new DOMParser().parseFromString(markup, "text/html").body.textContent;

function extent(source) {
  const bounds = latLngBounds(source.bounds), middle = bounds.getCenter();
  const across = map.distance([middle.lat, bounds.getWest()], [middle.lat, bounds.getEast()]);
  const along = map.distance(bounds.getSouthWest(), bounds.getNorthWest());
  return `${length(across)} × ${length(along)}`;
}

function entry(source) {
  const button = document.createElement("button");
  const lines = [source.name, `${length(source.gsd_m)} per pixel · ${extent(source)}`, plain(source.attribution),
    source.synthetic && "partly made up by a model: no evidence of what is there"];
  lines.filter(Boolean).forEach((text, i) => {
    const line = document.createElement("span");
    line.className = i ? "faint" : "name";
    line.textContent = text;
    button.append(line);
  });
  button.type = "button";
  button.addEventListener("click", () => choose(source));
  source.button = button;
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function choose(source) {
  chosen?.button.setAttribute("aria-pressed", "false");
  source.button.setAttribute("aria-pressed", "true");
  layer?.remove();
  notice.remove();
  if (chosen) attribution.removeAttribution(chosen.credit);
  chosen = source;
  attribution.addAttribution(source.credit);
  history.replaceState(null, "", `#${address(source)}`);
  // Leaflet counts through all tiles of a view: far below the smallest zoom that would be millions.
  map.setMinZoom(Math.max(source.minzoom - 2, 0)).setMaxZoom(source.maxzoom + 3);
  map.fitBounds(latLngBounds(source.bounds), { animate: false });
  layer = L.tileLayer(`${address(source)}/{z}/{x}/{y}{r}.webp`, {
    bounds: latLngBounds(source.bounds), minNativeZoom: source.minzoom, maxNativeZoom: source.maxzoom,
    maxZoom: source.maxzoom + 3,
  }).on("tileerror", ({ tile }) => json(tile.src).catch(error => warn(error.message)))
    .on("loading load", ({ type }) => map.getContainer().classList.toggle("loading", type === "loading")).addTo(map);
  element("xyz").textContent = source.tiles[0];
  element("tilejson").textContent = new URL(`${address(source)}/tilejson.json`, document.baseURI).href;
  element("links").hidden = false;
  element("grid").hidden = !source.grid;
  grid.clearLayers();
  if (source.grid) enter("root");
}

// --- the zoom grid

async function enter(path) {
  const source = chosen;
  const { features: [cell, ...children] } = await json(`${address(source)}/cell/${path}.json`);
  if (source !== chosen) return;
  grid.clearLayers();
  L.geoJSON(cell, { style: { color: ACCENT, weight: 3, fill: false }, interactive: false }).addTo(grid);
  children.forEach((child, number) => {
    const outline = L.geoJSON(child, { style: { color: ACCENT, weight: 1, fillColor: ACCENT, fillOpacity: 0 } });
    outline.on({
      mouseover: () => outline.setStyle({ fillOpacity: 0.25 }),
      mouseout: () => outline.setStyle({ fillOpacity: 0 }),
      click: () => enter(child.id),
    });
    outline.bindTooltip(String(number), { permanent: true, direction: "center", className: "number" }).addTo(grid);
  });
  map.flyToBounds(latLngBounds(cell.bbox), { duration: 0.6 });
  element("view").src = `${address(source)}/cell/${path}?format=webp`;
  const { level, side_m } = cell.properties;
  element("caption").textContent = `Level ${level}: ${length(side_m)} a side` + (children.length ? "" : ", the last level");
  const numbers = path === "root" ? [] : path.split("-");
  element("path").replaceChildren(...["root", ...numbers].map((name, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = i ? name : "whole";
    button.addEventListener("click", () => enter(i ? numbers.slice(0, i).join("-") : "root"));
    return button;
  }));
}

// --- addresses to take away

function showWindow() {
  if (!chosen) return;
  const view = map.getBounds(), { x, y } = map.getSize();
  const [southWest, northEast] = [view.getSouthWest(), view.getNorthEast()].map(at => L.CRS.EPSG3857.project(at));
  const bounds = [southWest.x, southWest.y, northEast.x, northEast.y].map(value => value.toFixed(2));
  const query = `bounds=${bounds}&crs=EPSG:3857&width=${x}&height=${y}&format=png`;
  const url = new URL(`${address(chosen)}/window?${query}`, document.baseURI).href;
  element("window").textContent = element("picture").href = url;
}
map.on("moveend resize", showWindow);

document.querySelectorAll("h3 button").forEach(button => button.addEventListener("click", async () => {
  const text = element(button.dataset.of);
  getSelection().selectAllChildren(text);
  if (navigator.clipboard) await navigator.clipboard.writeText(text.textContent);
  else document.execCommand("copy"); // browsers keep the clipboard from pages of other machines over plain HTTP
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}));

json("sources.json").then(sources => {
  element("summary").textContent = sources.length === 0 ? "There is none."
    : `${sources.length === 1 ? "One source" : `${sources.length} sources`}. Choose one to see it.`;
  element("list").append(...sources.map(entry));
  for (const source of sources) {
    source.credit = plain(source.attribution).replace(/[&<>]/g, sign => `&#${sign.charCodeAt(0)};`);
    L.rectangle(latLngBounds(source.bounds), OUTLINE).bindTooltip(source.name).addTo(map);
  }
  const named = decodeURIComponent(location.hash.slice(1));
  if (sources.length) choose(sources.find(source => source.name === named) ?? sources[0]);
}).catch(error => warn(error.message));
