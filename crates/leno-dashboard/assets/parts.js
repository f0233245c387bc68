// Parts that several screens use.

import { h } from './vendor/preact.js';
import htm from './vendor/htm.js';
import { useState } from './vendor/hooks.js';
import { address } from './state.js';
import { health, millis, peerName, percent, rate, split } from './format.js';

export const html = htm.bind(h);

/** Rows of a table before "show all". */
const ROWS = 200;

/**
 * A table that sorts by its columns.
 * @param columns `{ title, value(row), cell(row), right, hint }`; sorted by `value` where there is one.
 */
export function Table({ columns, rows, id, sort = 0, descending = false, empty, caption, rowClass }) {
  const [order, setOrder] = useState({ column: sort, descending });
  const [all, setAll] = useState(false);
  const column = columns[order.column] ?? columns[0];
  const sorted = column.value ? [...rows].sort((a, b) => compare(column.value(a), column.value(b))) : rows;
  if (order.descending && column.value) sorted.reverse();
  const shown = all ? sorted : sorted.slice(0, ROWS);
  const choose = (index) => setOrder({
    column: index,
    descending: order.column === index ? !order.descending : Boolean(columns[index].right),
  });
  if (rows.length === 0) return html`<p class="empty">${empty ?? 'Nothing here.'}</p>`;
  return html`<div class="table-frame"><table>
    ${caption && html`<caption class="hidden">${caption}</caption>`}
    <thead><tr>${columns.map((c, index) => html`
      <th scope="col" key=${c.title} class=${c.right ? 'right' : ''} title=${c.hint}
          aria-sort=${order.column === index ? (order.descending ? 'descending' : 'ascending') : undefined}>
        ${c.value ? html`<button type="button" onClick=${() => choose(index)}>${c.title}<i aria-hidden="true"></i></button>` : c.title}
      </th>`)}</tr></thead>
    <tbody>${shown.map((row) => html`<tr key=${id(row)} class=${rowClass?.(row)}>
      ${columns.map((c) => html`<td key=${c.title} class=${c.right ? 'right' : ''}>${c.cell(row)}</td>`)}
    </tr>`)}</tbody>
  </table>
  ${shown.length < rows.length && html`<button type="button" class="more" onClick=${() => setAll(true)}>Show all ${rows.length}</button>`}
  </div>`;
}

function compare(a, b) {
  if (typeof a === 'string' || typeof b === 'string') return String(a ?? '').localeCompare(String(b ?? ''));
  return (a ?? -1) - (b ?? -1);
}

/** A word in a colour. */
export const Badge = ({ kind, children, title }) => html`<span class="badge ${kind}" title=${title}>${children}</span>`;

/** A link to a service; what is no service of the mesh is text. */
export function Service({ id }) {
  const [name, namespace] = split(id);
  if (!namespace) return html`<span class="muted">${peerName(id)}</span>`;
  return html`<a class="service" href=${address('services', id)}>${name}<span>.${namespace}</span></a>`;
}

/** Errors with their colour. */
export const Errors = ({ row }) => html`<span class="dot ${health(row.rate, row.errors)}"></span>${row.rate > 0 ? percent(row.errors) : '–'}`;

/** One number with its name. */
export const Figure = ({ label, value, kind, hint }) => html`
  <div class="figure ${kind ?? ''}" title=${hint}><b>${value}</b><span>${label}</span></div>`;

/** A curve without axes. */
export function Spark({ points, width = 96, height = 22 }) {
  if (!points || points.length < 2) return html`<span class="muted">–</span>`;
  const top = Math.max(...points, 1e-9);
  const x = (index) => (index / (points.length - 1)) * (width - 2) + 1;
  const y = (value) => height - 2 - (value / top) * (height - 4);
  const line = points.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
  return html`<svg class="spark" width=${width} height=${height} aria-hidden="true">
    <polygon points=${`${x(0)},${height - 1} ${line} ${x(points.length - 1)},${height - 1}`} />
    <polyline points=${line} />
  </svg>`;
}

/** Shares of versions as one bar and its legend. */
export function Versions({ versions }) {
  const total = versions.reduce((sum, version) => sum + version.rate, 0);
  if (versions.length === 0) return html`<span class="muted">–</span>`;
  return html`<span class="versions">${versions.map((version, index) => html`
    <span key=${version.version} class="version c${index % 6}" title=${`${rate(version.rate)}, ${percent(version.errors)} errors, p95 ${millis(version.latency.p95)}`}>
      ${version.version || 'none'}${total > 0 ? ` ${Math.round((version.rate / total) * 100)} %` : ''}</span>`)}</span>`;
}

/** A field that filters what is below. */
export function Filter({ value, onValue, label }) {
  return html`<input type="search" class="filter" placeholder=${label} aria-label=${label} value=${value}
    onInput=${(event) => onValue(event.target.value)} />`;
}

/** Whether a row's texts hold every word of the filter. */
export function matches(filter, ...texts) {
  const text = texts.join(' ').toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
