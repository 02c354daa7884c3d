// Draws charts from the tables that stand in the pages: bars by day, a colour for each column. Without it the tables
// are shown as they are. Nothing else of the pages needs a script of ours.
"use strict";

const COLOURS = 6;
const HEIGHT = 200;
const drawn = new Map();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (cell) => Number(cell.dataset.value);
const language = document.documentElement.lang;
const exact = new Intl.NumberFormat(language);
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** The days of a table, and a row of numbers for each of its other columns. */
function read(table) {
  const [first, ...others] = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const names = others;
  const rows = [...table.tBodies[0].rows];
  const days = rows.map((row) => row.cells[0].textContent.trim());
  const series = names.map((_, place) => rows.map((row) => number(row.cells[place + 1])));
  return { first, names, days, series };
}

/** Each row on top of those before it. */
function stacked(series) {
  const sums = series.length ? series[0].map(() => 0) : [];
  return series.map((row) => row.map((value, day) => (sums[day] += value)));
}

function options({ first, names, days, series }, width) {
  const sums = series.map((row) => row.reduce((sum, value) => sum + value, 0));
  const span = days.length ? `${days[0]} – ${days[days.length - 1]}` : "";
  const shown = (place, day) => exact.format(day == null ? sums[place] : series[place][day]);
  const bars = uPlot.paths.bars({ size: [0.72, 28], radius: 0.12 });
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: colour("--soft"), grid, ticks: { show: false }, font: "12px system-ui" };
  const apart = Math.max(1, Math.ceil((days.length * 58) / Math.max(width - 60, 1)));
  const marks = days.map((_, day) => day).filter((day) => (days.length - 1 - day) % apart === 0);
  // The highest sum is drawn first, so that the lower ones stand before it.
  const rows = names.map((name, place) => {
    const fill = colour(`--s${(place % COLOURS) + 1}`);
    return { label: name, fill, stroke: fill, width: 0, paths: bars, points: { show: false }, value: (_, __, ___, day) => shown(place, day) };
  });
  return {
    width,
    height: HEIGHT,
    series: [{ label: first, value: (_, __, ___, day) => (day == null ? span : days[day]) }, ...rows.reverse()],
    scales: { x: { time: false, range: [-0.6, days.length - 0.4] }, y: { range: (_, __, most) => [0, Math.max(most * 1.08, 4)] } },
    axes: [
      { ...axis, grid: { show: false }, splits: () => marks, values: (_, places) => places.map((day) => days[day].slice(5)), gap: 6 },
      { ...axis, size: 52, values: (_, places) => places.map((value) => (Number.isInteger(value) ? short.format(value) : "")) },
    ],
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    legend: { markers: { width: 0, stroke: null } },
  };
}

function draw(chart) {
  const details = chart.querySelector("details");
  const table = read(details.querySelector("table"));
  let room = chart.querySelector(".drawn");
  if (!room) {
    room = document.createElement("div");
    room.className = "drawn";
    room.setAttribute("aria-hidden", "true");
    chart.prepend(room);
    details.open = false;
    new ResizeObserver(() => drawn.get(chart)?.width === room.clientWidth || draw(chart)).observe(room);
  }
  drawn.get(chart)?.destroy();
  const days = table.days.map((_, day) => day);
  const data = [days, ...stacked(table.series).reverse()];
  drawn.set(chart, new uPlot(options(table, room.clientWidth), data, room));
}

function drawAll() {
  for (const chart of drawn.keys()) {
    if (!chart.isConnected) drawn.delete(chart);
  }
  for (const chart of document.querySelectorAll(".chart")) draw(chart);
}

drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
