// The map: who calls whom, how often, how well. A picture, and a table of the same numbers.

import { useEffect, useMemo, useRef, useState } from './vendor/hooks.js';
import { address, live, route } from './state.js';
import { Badge, Errors, Figure, Service, Table, Versions, html } from './parts.js';
import { bytes, connections, health, millis, number, peerName, percent, rate, short, split } from './format.js';
import { layout } from './layout.js';

/** More services than this are folded into their namespaces. */
const FOLD = 60;
/** More nodes than this are not drawn; the busiest are. */
const NODES_MAX = 200;
/** With more edges than this, only those of the chosen node have their numbers beside them. */
const LABELS_MAX = 28;
/** With more edges for each node than this, only the strongest are drawn, the others where something is chosen. */
const DENSE = 1.6;
const NODE = { width: 172, height: 58, versions: 18 };

export function Map_() {
  const document = live.value;
  const { parameters } = route.value;
  const view = { select: parameters.get('select'), focus: parameters.get('focus'), namespace: parameters.get('namespace'), table: parameters.get('as') === 'table' };
  const go = (change) => {
    const next = { ...Object.fromEntries(parameters), ...change };
    for (const name of Object.keys(next)) if (next[name] == null) delete next[name];
    location.hash = address('map', null, next);
  };
  const graph = useMemo(() => graphOf(document, view), [document, view.focus, view.namespace]);
  // The picture stays as it is until something comes or goes: numbers alone move nothing.
  const shape = [...graph.nodes.map((node) => `${node.id}:${node.height}`).sort(), ...graph.edges.map((edge) => edge.id).sort()].join();
  const strong = useMemo(() => strongest(graph), [shape]);
  const places = useMemo(() => layout(graph.nodes, graph.edges.filter((edge) => strong.has(edge.id))), [shape]);
  const weak = graph.edges.length - strong.size;
  const chosen = graph.nodes.find((node) => node.id === view.select);
  return html`<section class="map" aria-label="Map of services">
    <header class="bar">
      <h1>Map</h1>
      ${(view.focus || view.namespace) && html`<button type="button" class="chip" onClick=${() => go({ focus: null, namespace: null })}>
        ${view.focus ? `around ${view.focus}` : `namespace ${view.namespace}`} <span aria-label="show all">✕</span></button>`}
      ${weak > 0 && !view.table && html`<span class="muted">${weak} weaker connections show when a service is chosen</span>`}
      ${graph.left > 0 && html`<${Badge} kind="warn">${graph.left} quieter services are not drawn<//>`}
      <span class="grow"></span>
      <${Legend} />
      <div class="choice" role="group" aria-label="Show as">
        <button type="button" aria-pressed=${!view.table} onClick=${() => go({ as: null })}>Picture</button>
        <button type="button" aria-pressed=${view.table} onClick=${() => go({ as: 'table' })}>Table</button>
      </div>
    </header>
    ${graph.nodes.length === 0 ? html`<${Empty} />`
      : view.table ? html`<${EdgeTable} edges=${document.edges} />`
        : html`<div class="map-body">
          <${Picture} graph=${graph} strong=${strong} places=${places} select=${view.select} go=${go} />
          ${chosen && html`<${Panel} node=${chosen} go=${go} />`}
        </div>`}
  </section>`;
}

const Empty = () => html`<div class="empty big"><p>No service is known yet.</p>
  <p>Start one with <code>leno run --service web -- your-program</code>; it appears here with its first call.</p></div>`;

const Legend = () => html`<ul class="legend" aria-label="Colours">
  <li class="ok">healthy</li><li class="warn">over 1 % errors</li><li class="bad">over 5 %</li><li class="idle">no traffic</li>
  <li class="text" title="Written on the lines: requests a second, errors if there are any, and the time within which 95 % were answered">requests · p95</li></ul>`;

// --- From the document to a graph -------------------------------------------------------------------------------------

function graphOf(document, { focus, namespace }) {
  const services = new Map(document.services.map((row) => [row.service, row]));
  const ids = new Set(services.keys());
  for (const edge of document.edges) {
    ids.add(edge.source);
    ids.add(edge.destination);
  }
  const near = focus && ids.has(focus) ? neighbours(document.edges, focus) : null;
  const folds = !near && ids.size > FOLD;
  const group = (id) => {
    const space = split(id)[1];
    return folds && space && space !== namespace ? `namespace ${space}` : id;
  };
  const nodes = new Map();
  const inside = namespace && !near ? neighbours(document.edges, (id) => split(id)[1] === namespace) : null;
  for (const id of ids) {
    if ((near && !near.has(id)) || (inside && !inside.has(id) && split(id)[1] !== namespace)) continue;
    const name = group(id);
    const node = nodes.get(name) ?? { id: name, folded: name !== id, members: [], rate: 0, failed: 0, p95: null, up: 0, instances: 0, versions: [], open: 0, connections: 0, opened: 0, flow: 0 };
    nodes.set(name, node);
    node.members.push(id);
    const row = services.get(id);
    if (!row) continue;
    node.rate += row.rate;
    node.failed += row.rate * row.errors;
    node.open += row.open;
    node.connections += row.connections_open;
    node.opened += row.connections;
    node.flow += row.received + row.sent;
    node.p95 = Math.max(node.p95 ?? 0, row.latency.p95 ?? 0) || null;
    node.instances += row.instances.length;
    node.up += row.instances.filter((instance) => instance.takes_traffic).length;
    if (!node.folded) node.versions = row.versions;
    node.row = row;
  }
  const edges = new Map();
  for (const edge of document.edges) {
    const [from, to] = [group(edge.source), group(edge.destination)];
    if (!nodes.has(from) || !nodes.has(to)) continue;
    if (inside && split(edge.source)[1] !== namespace && split(edge.destination)[1] !== namespace) continue;
    addEdge(edges, from, to, edge);
  }
  let kept = [...nodes.values()];
  // Who only calls has no rate of its own: what it sends counts.
  for (const edge of edges.values()) {
    const node = nodes.get(edge.from);
    node.sent = (node.sent ?? 0) + edge.rate;
  }
  kept.sort((a, b) => b.rate + (b.sent ?? 0) - a.rate - (a.sent ?? 0));
  const left = Math.max(0, kept.length - NODES_MAX);
  kept = kept.slice(0, NODES_MAX);
  for (const node of kept) {
    node.errors = node.rate > 0 ? node.failed / node.rate : 0;
    node.width = NODE.width;
    node.height = NODE.height + (node.versions.length > 1 ? NODE.versions : 0);
  }
  const drawn = new Set(kept.map((node) => node.id));
  return { nodes: kept, edges: [...edges.values()].filter((edge) => drawn.has(edge.from) && drawn.has(edge.to)), left };
}

function addEdge(edges, from, to, edge) {
  const name = `${from}→${to}`;
  const sum = edges.get(name) ?? { id: name, from, to, rate: 0, failed: 0, p95: null, connections: 0, opened: 0, flow: 0, security: edge.security };
  edges.set(name, sum);
  sum.rate += edge.rate;
  sum.failed += edge.rate * edge.errors;
  sum.errors = sum.rate > 0 ? sum.failed / sum.rate : 0;
  if (edge.latency.p95 != null) sum.p95 = Math.max(sum.p95 ?? 0, edge.latency.p95);
  if (edge.protocol === 'tcp') {
    sum.connections += edge.connections_open;
    sum.opened += edge.connections;
    sum.flow += edge.received + edge.sent;
  }
}

/** The edges that a dense picture shows: of each node the strongest to it and from it, then the strongest of all. */
function strongest({ nodes, edges }) {
  const most = Math.max(LABELS_MAX, Math.ceil(nodes.length * DENSE));
  if (edges.length <= most) return new Set(edges.map((edge) => edge.id));
  const sorted = [...edges].sort((a, b) => b.rate - a.rate || b.flow - a.flow || a.id.localeCompare(b.id));
  const [reached, left, kept] = [new Set(), new Set(), new Set()];
  for (const edge of sorted) {
    if (reached.has(edge.to) && left.has(edge.from)) continue;
    reached.add(edge.to);
    left.add(edge.from);
    kept.add(edge.id);
  }
  for (const edge of sorted) {
    if (kept.size >= most) break;
    kept.add(edge.id);
  }
  return kept;
}

function neighbours(edges, of) {
  const is = typeof of === 'function' ? of : (id) => id === of;
  const near = new Set(typeof of === 'function' ? [] : [of]);
  for (const edge of edges) {
    if (is(edge.source)) near.add(edge.destination).add(edge.source);
    if (is(edge.destination)) near.add(edge.source).add(edge.destination);
  }
  return near;
}

const active = (edge) => edge.rate > 0 || edge.connections > 0 || edge.flow > 0;
const edgeHealth = (edge) => (edge.rate > 0 ? health(edge.rate, edge.errors) : active(edge) ? 'ok' : 'idle');

function edgeText(edge) {
  const parts = [];
  if (edge.rate > 0) {
    parts.push(rate(edge.rate));
    if (edge.errors > 0) parts.push(`${percent(edge.errors)} err`);
    if (edge.p95 != null) parts.push(millis(edge.p95));
  }
  if (edge.connections > 0 || edge.opened > 0 || edge.flow > 0) parts.push(connections(edge.connections, edge.opened), `${bytes(edge.flow)}/s`);
  return parts.join(' · ') || 'idle';
}

// --- The picture --------------------------------------------------------------------------------------------------------

function Picture({ graph, strong, places, select, go }) {
  const frame = useRef(null);
  const [box, setBox] = useState(null);
  const [pointed, setPointed] = useState(null);
  const whole = { x: -24, y: -24, width: places.width + 48, height: places.height + 48 };
  const seen = box ?? whole;
  useEffect(() => setBox(null), [places]);
  const zoom = (factor, center) => setBox((now) => {
    const from = now ?? whole;
    const width = Math.min(Math.max(from.width * factor, 240), Math.max(whole.width * 2, 1200));
    const scale = width / from.width;
    const middle = center ?? { x: from.x + from.width / 2, y: from.y + from.height / 2 };
    return { x: middle.x - (middle.x - from.x) * scale, y: middle.y - (middle.y - from.y) * scale, width, height: from.height * scale };
  });
  useNavigation(frame, zoom, setBox, seen);
  const near = (edge) => select === edge.from || select === edge.to || pointed === edge.id || pointed === edge.from || pointed === edge.to;
  const chosen = graph.nodes.some((node) => node.id === select);
  const linked = new Set(graph.edges.filter((edge) => edge.from === select || edge.to === select).flatMap((edge) => [edge.from, edge.to]));
  // Drawn last, on top: what is chosen.
  const edges = graph.edges.filter((edge) => strong.has(edge.id) || near(edge)).sort((a, b) => near(a) - near(b));
  const labels = strong.size <= LABELS_MAX;
  const placeOf = (edge) => places.edges.get(edge.id) ?? direct(edge, places.nodes, graph.nodes);
  return html`<div class="picture" ref=${frame}>
    <svg viewBox=${`${seen.x} ${seen.y} ${seen.width} ${seen.height}`} preserveAspectRatio="xMidYMid meet" role="group"
        aria-label=${`${graph.nodes.length} nodes and ${graph.edges.length} connections`} onClick=${() => go({ select: null })}>
      <g>${edges.map((edge) => html`<${Edge} key=${edge.id} edge=${edge} place=${placeOf(edge)}
          node=${places.nodes.get(edge.from)} faded=${chosen && !near(edge)} strong=${near(edge)} onPoint=${setPointed} />`)}</g>
      <g>${graph.nodes.map((node) => html`<${Node} key=${node.id} node=${node} place=${places.nodes.get(node.id)}
          chosen=${node.id === select} faded=${chosen && node.id !== select && !linked.has(node.id)} onPoint=${setPointed}
          choose=${() => go(node.folded ? { namespace: node.id.slice(10), select: null } : { select: node.id === select ? null : node.id })} />`)}</g>
      <g class="labels">${edges.map((edge) => (labels || near(edge)) && (active(edge) || near(edge)) && html`
        <${Label} key=${edge.id} edge=${edge} place=${placeOf(edge)} node=${places.nodes.get(edge.from)} faded=${chosen && !near(edge)} />`)}</g>
    </svg>
    <div class="zoom" role="group" aria-label="Zoom">
      <button type="button" aria-label="Closer" onClick=${() => zoom(0.8)}>+</button>
      <button type="button" aria-label="Farther" onClick=${() => zoom(1.25)}>−</button>
      <button type="button" aria-label="Fit" onClick=${() => setBox(null)}>⤢</button>
    </div>
  </div>`;
}

/** The wheel zooms where the pointer is, dragging moves. */
function useNavigation(frame, zoom, setBox, seen) {
  const now = useRef(null);
  now.current = { zoom, setBox, seen };
  useEffect(() => {
    const element = frame.current;
    const scale = () => {
      const { width, height } = element.getBoundingClientRect();
      return Math.max(now.current.seen.width / width, now.current.seen.height / height);
    };
    const wheel = (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
      event.preventDefault();
      const frameBox = element.getBoundingClientRect();
      const { seen: from } = now.current;
      const center = {
        x: from.x + from.width / 2 + (event.clientX - frameBox.left - frameBox.width / 2) * scale(),
        y: from.y + from.height / 2 + (event.clientY - frameBox.top - frameBox.height / 2) * scale(),
      };
      now.current.zoom(Math.exp(event.deltaY * 0.0015), center);
    };
    let drag = null;
    const down = (event) => {
      if (event.button === 0 && !event.target.closest('[role=button], button')) drag = { x: event.clientX, y: event.clientY, box: now.current.seen, scale: scale() };
    };
    const move = (event) => {
      if (!drag) return;
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (Math.abs(dx) + Math.abs(dy) < 4) return;
      now.current.setBox({ ...drag.box, x: drag.box.x - dx * drag.scale, y: drag.box.y - dy * drag.scale });
    };
    const up = () => { drag = null; };
    element.addEventListener('wheel', wheel, { passive: false });
    element.addEventListener('pointerdown', down);
    addEventListener('pointermove', move);
    addEventListener('pointerup', up);
    return () => {
      element.removeEventListener('wheel', wheel);
      element.removeEventListener('pointerdown', down);
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', up);
    };
  }, []);
}

/** The way of an edge that has no place of its own: straight from side to side. */
function direct(edge, places, nodes) {
  if (edge.from === edge.to) return null;
  const [from, to] = [places.get(edge.from), places.get(edge.to)];
  const height = (id) => nodes.find((node) => node.id === id).height / 2;
  const back = to.x <= from.x;
  return {
    back,
    points: [{ x: from.x + (back ? 0 : NODE.width), y: from.y + height(edge.from) }, { x: to.x + (back ? NODE.width : 0), y: to.y + height(edge.to) }],
  };
}

/** A smooth line through the points of an edge, its middle and its arrow. */
function line(place, node) {
  if (!place) {
    // A service that calls itself: a loop above its node.
    const [x, y] = [node.x + NODE.width / 2, node.y];
    return { path: `M${x - 20} ${y} C${x - 44} ${y - 40} ${x + 44} ${y - 40} ${x + 20} ${y}`, middle: { x, y: y - 30 }, end: { x: x + 20, y }, turn: 100 };
  }
  const { points, back } = place;
  let path = `M${points[0].x} ${points[0].y}`;
  for (let n = 1; n < points.length; n += 1) {
    const [a, b] = [points[n - 1], points[n]];
    const bow = Math.max(28, Math.abs(b.x - a.x) * 0.45) * (back ? -1 : 1);
    path += ` C${a.x + bow} ${a.y} ${b.x - bow} ${b.y} ${b.x} ${b.y}`;
  }
  const half = Math.floor((points.length - 1) / 2);
  const [a, b] = [points[half], points[half + 1]];
  const middle = points.length % 2 === 1 ? points[half] : { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  return { path, middle, end: points.at(-1), turn: back ? 180 : 0 };
}

function Edge({ edge, place, node, faded, strong, onPoint }) {
  const drawn = line(place, node);
  const thick = Math.min(5, 1.4 + Math.log10(1 + edge.rate) * 1.1);
  const speed = edge.rate <= 0 ? (edge.flow > 0 ? 1 : 0) : edge.rate < 5 ? 1 : edge.rate < 50 ? 2 : 3;
  return html`<g class="edge ${edgeHealth(edge)} ${faded ? 'faded' : ''} ${strong ? 'strong' : ''}"
      onPointerEnter=${() => onPoint(edge.id)} onPointerLeave=${() => onPoint(null)}>
    <path class="hit" d=${drawn.path} /><path class="track" d=${drawn.path} stroke-width=${thick} />
    ${speed > 0 && html`<path class="flow s${speed}" d=${drawn.path} stroke-width=${Math.max(1.6, thick * 0.7)} />`}
    <path class="arrow" d="M0 0 L-9 -4.6 L-9 4.6Z" transform=${`translate(${drawn.end.x} ${drawn.end.y}) rotate(${drawn.turn})`} />
    <title>${`${peerName(edge.from)} calls ${peerName(edge.to)}: ${edgeText(edge)}`}</title></g>`;
}

function Label({ edge, place, node, faded }) {
  const { middle } = line(place, node);
  const text = edgeText(edge);
  const width = text.length * 5.9 + 12;
  return html`<g class="label ${edgeHealth(edge)} ${faded ? 'faded' : ''}" transform=${`translate(${middle.x} ${middle.y})`}>
    <rect x=${-width / 2} y="-9" width=${width} height="18" rx="9" /><text text-anchor="middle" y="3.6">${text}</text></g>`;
}

function Node({ node, place, chosen, faded, choose, onPoint }) {
  const [name, namespace] = node.folded ? [node.id.slice(10), `${node.members.length} services`] : split(node.id);
  const bytesOnly = node.rate === 0 && (node.connections > 0 || node.opened > 0 || node.flow > 0);
  // Who only calls has no errors of its own: they show on its edges.
  const calls = node.rate === 0 && node.sent > 0;
  const kind = node.instances > 0 && node.up === 0 ? 'bad' : bytesOnly || calls ? 'ok' : health(node.rate, node.errors);
  const total = node.versions.reduce((sum, version) => sum + version.rate, 0);
  const state = node.instances > 0 ? `${node.up}/${node.instances} up` : '';
  const second = [namespace, state].filter(Boolean).join(' · ');
  const amount = bytesOnly ? connections(node.connections, node.opened) : node.rate > 0 ? rate(node.rate) : '';
  const figures = amount && `${amount}${node.errors > 0 ? ` · ${percent(node.errors)} err` : ''}`;
  const said = `${[node.folded ? `namespace ${name}` : peerName(node.id), second, figures || (calls ? `calls others ${rate(node.sent)}` : 'no requests')].filter(Boolean).join('. ')}`;
  const press = (event) => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      choose();
    }
  };
  let left = 10;
  return html`<g data-id=${node.id} class="node ${kind} ${chosen ? 'chosen' : ''} ${faded ? 'faded' : ''} ${node.folded ? 'folded' : ''}" role="button" tabindex="0"
      aria-label=${said} aria-pressed=${chosen} transform=${`translate(${place.x} ${place.y})`} onKeyDown=${press}
      onClick=${(event) => { event.stopPropagation(); choose(); }} onPointerEnter=${() => onPoint(node.id)} onPointerLeave=${() => onPoint(null)}>
    <title>${said}</title>
    ${node.folded && html`<rect class="card" x="4" y="-4" width=${node.width} height=${node.height} rx="10" />`}
    <rect class="card" width=${node.width} height=${node.height} rx="10" /><rect class="stripe" width="4" y="10" height=${node.height - 20} rx="2" />
    <text class="name" x="14" y="23">${short(name, figures ? 14 : 20)}</text>
    ${figures && html`<text class="amount" x=${node.width - 12} y="23" text-anchor="end">${amount}</text>`}
    <text class="second" x="14" y="42">${short(second, 22)}</text>
    ${node.errors > 0 && html`<text class="second errors" x=${node.width - 12} y="42" text-anchor="end">${percent(node.errors)}</text>`}
    ${node.versions.length > 1 && html`<g transform="translate(0 52)">${node.versions.map((version, index) => {
      const width = Math.max(3, (node.width - 20) * (total > 0 ? version.rate / total : 1 / node.versions.length) - 2);
      const from = left;
      left += width + 2;
      return html`<g key=${version.version} class="share c${index % 6}"><rect x=${from} y="3" width=${width} height="13" rx="3" />
        ${width > 44 && html`<text x=${from + width / 2} y="12.8" text-anchor="middle">${short(version.version || 'none', 6)} ${total > 0 ? `${Math.round((version.rate / total) * 100)}%` : ''}</text>`}</g>`;
    })}</g>`}
  </g>`;
}

// --- Beside and instead of the picture ---------------------------------------------------------------------------------

function Panel({ node, go }) {
  const edges = live.value.edges;
  const row = node.row;
  const callers = edges.filter((edge) => edge.destination === node.id);
  const callees = edges.filter((edge) => edge.source === node.id);
  return html`<aside class="panel" aria-label=${`About ${node.id}`}>
    <header><h2><${Service} id=${node.id} /></h2><button type="button" class="close" aria-label="Close" onClick=${() => go({ select: null })}>✕</button></header>
    ${row && html`<div class="figures">
      <${Figure} label="requests" value=${rate(row.rate)} /><${Figure} label="errors" value=${row.rate > 0 ? percent(row.errors) : '–'} kind=${health(row.rate, row.errors)} />
      <${Figure} label="p50" value=${millis(row.latency.p50)} /><${Figure} label="p95" value=${millis(row.latency.p95)} /><${Figure} label="p99" value=${millis(row.latency.p99)} />
      <${Figure} label="instances" value=${`${node.up}/${node.instances}`} kind=${node.instances > 0 && node.up < node.instances ? 'warn' : ''} /></div>
      ${row.versions.length > 0 && html`<h3>Versions</h3><${Versions} versions=${row.versions} />`}
      ${row.outcomes.length > 0 && html`<h3>What goes wrong</h3><ul class="outcomes">${row.outcomes.slice(0, 5).map((outcome) => html`
        <li key=${JSON.stringify([outcome.code, outcome.flag, outcome.grpc])}><${Badge} kind=${outcome.error ? 'bad' : 'idle'}>${outcome.code}<//> ${outcome.reason ? outcome.reason.replaceAll('_', ' ') : 'by the service'} <i>${rate(outcome.rate)}</i></li>`)}</ul>`}`}
    <${Peers} title="Called by" edges=${callers} of=${(edge) => edge.source} /><${Peers} title="Calls" edges=${callees} of=${(edge) => edge.destination} />
    <p class="actions"><button type="button" class="chip" onClick=${() => go({ focus: node.id })}>Only its neighbours</button>
      ${split(node.id)[1] && html`<a class="chip" href=${address('services', node.id)}>All about it</a>`}</p>
  </aside>`;
}

const Peers = ({ title, edges, of }) => edges.length > 0 && html`<h3>${title}</h3><ul class="peers">${edges.map((edge) => html`
  <li key=${of(edge) + edge.protocol}><span class="dot ${edge.rate > 0 ? health(edge.rate, edge.errors) : edge.connections_open > 0 || edge.connections > 0 ? 'ok' : 'idle'}"></span><${Service} id=${of(edge)} />
  <i>${edge.protocol === 'tcp' ? connections(edge.connections_open, edge.connections) : rate(edge.rate)}</i></li>`)}</ul>`;

export function EdgeTable({ edges, without }) {
  const columns = [
    { title: 'From', value: (edge) => edge.source, cell: (edge) => html`<${Service} id=${edge.source} />` },
    { title: 'To', value: (edge) => edge.destination, cell: (edge) => html`<${Service} id=${edge.destination} />` },
    { title: 'Protocol', value: (edge) => edge.protocol, cell: (edge) => edge.protocol },
    { title: 'Requests', right: true, value: (edge) => edge.rate, cell: (edge) => (edge.protocol === 'tcp' ? '–' : rate(edge.rate)) },
    { title: 'Errors', right: true, value: (edge) => edge.errors, cell: (edge) => html`<${Errors} row=${edge} />` },
    { title: 'p50', right: true, value: (edge) => edge.latency.p50, cell: (edge) => millis(edge.latency.p50) },
    { title: 'p95', right: true, value: (edge) => edge.latency.p95, cell: (edge) => millis(edge.latency.p95) },
    { title: 'p99', right: true, value: (edge) => edge.latency.p99, cell: (edge) => millis(edge.latency.p99) },
    { title: 'Retries', right: true, value: (edge) => edge.retries, cell: (edge) => (edge.retries > 0 ? rate(edge.retries) : '–') },
    { title: 'Connections', right: true, hint: 'TCP connections that are open, or made a second where they are short', value: (edge) => edge.connections_open, cell: (edge) => (edge.protocol === 'tcp' ? connections(edge.connections_open, edge.connections) : '–') },
    { title: 'Bytes', right: true, value: (edge) => edge.received + edge.sent, cell: (edge) => `${bytes(edge.received + edge.sent)}/s` },
  ].filter((column) => column.title !== without);
  return html`<${Table} caption="Connections between services" columns=${columns} rows=${edges} id=${(edge) => `${edge.source}→${edge.destination}/${edge.protocol}`}
    sort=${columns.findIndex((column) => column.title === 'Requests')} descending empty="Nobody has called." />`;
}
