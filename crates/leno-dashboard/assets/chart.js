// A chart of curves over time: grid, areas, a line that follows the pointer and says the numbers.

import { useEffect, useRef, useState } from './vendor/hooks.js';
import { html } from './parts.js';
import { span } from './format.js';

const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;

/**
 * @param points oldest first, each with `age` in seconds
 * @param curves `[{ name, value(point), kind }]`; null values are gaps
 * @param format of a value
 */
export function Chart({ title, points, curves, format, height = 150, top: least = 0 }) {
  const frame = useRef(null);
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(null);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const most = nice(Math.max(least, ...points.flatMap((point) => curves.map((curve) => curve.value(point) ?? 0))));
  const x = (index) => LEFT + (index / Math.max(1, points.length - 1)) * (width - LEFT - 6);
  const y = (value) => TOP + (1 - value / most) * (height - TOP - BOTTOM);
  const move = (event) => {
    const box = frame.current.getBoundingClientRect();
    const index = Math.round(((event.clientX - box.left - LEFT) / Math.max(1, width - LEFT - 6)) * (points.length - 1));
    setAt(index >= 0 && index < points.length ? index : null);
  };
  const shown = at == null ? points.length - 1 : at;
  const point = points[shown];
  return html`<figure class="chart">
    <figcaption><b>${title}</b>${point && curves.map((curve) => html`
      <span key=${curve.name} class="key ${curve.kind}">${curve.name} <i>${format(curve.value(point))}</i></span>`)}
      ${point && html`<time>${at == null ? 'now' : `${span(point.age)} ago`}</time>`}</figcaption>
    <div ref=${frame} onPointerMove=${move} onPointerLeave=${() => setAt(null)}>
      ${width > 0 && points.length > 1 && html`<svg width=${width} height=${height} role="img"
          aria-label=${`${title}: ${curves.map((curve) => `${curve.name} now ${format(curve.value(points.at(-1)))}`).join(', ')}`}>
        ${[0, 0.5, 1].map((share) => html`<g key=${share} class="grid">
          <line x1=${LEFT} x2=${width - 6} y1=${y(share * most)} y2=${y(share * most)} />
          <text x=${LEFT - 6} y=${y(share * most) + 4} text-anchor="end">${format(share * most)}</text></g>`)}
        ${[0, Math.floor((points.length - 1) / 2)].map((index) => html`<text key=${index} class="age" x=${x(index)} y=${height - 4}>−${span(points[index].age)}</text>`)}
        <text class="age" x=${width - 6} y=${height - 4} text-anchor="end">now</text>
        ${curves.map((curve) => runs(points, curve.value).map((run, n) => html`<g key=${`${curve.name}${n}`} class="curve ${curve.kind}">
          <path class="area" d=${`M${x(run[0])} ${y(0)} ${run.map((index) => `L${x(index)} ${y(curve.value(points[index]))}`).join(' ')} L${x(run.at(-1))} ${y(0)}Z`} />
          <path class="line" d=${`M${run.map((index) => `${x(index)} ${y(curve.value(points[index]))}`).join(' L')}`} /></g>`))}
        ${at != null && html`<line class="cross" x1=${x(at)} x2=${x(at)} y1=${TOP} y2=${height - BOTTOM} />`}
      </svg>`}
    </div>
  </figure>`;
}

/** Indices of points that have a value, cut at the gaps. */
function runs(points, value) {
  const all = [];
  let run = [];
  points.forEach((point, index) => {
    if (value(point) == null) {
      if (run.length > 0) all.push(run);
      run = [];
    } else {
      run.push(index);
    }
  });
  if (run.length > 0) all.push(run);
  return all;
}

/** The next round number, so that the scale does not tremble. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 1.02) ?? 10 * power;
}
