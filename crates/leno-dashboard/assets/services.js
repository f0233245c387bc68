// Services: a table of all, and a page for each.

import { useEffect, useState } from './vendor/hooks.js';
import { address, byService, history, live, policies, read, route, windowSeconds } from './state.js';
import { Badge, Errors, Figure, Filter, Service, Spark, Table, Versions, html, matches } from './parts.js';
import { bytes, connections, health, load, millis, number, percent, rate, split } from './format.js';
import { Chart } from './chart.js';
import { EdgeTable } from './map.js';
import { Policies, Trouble } from './policies.js';

/** How often the curves of a page are asked for. */
const EVERY = 5000;

export const Services = () => (route.value.argument ? html`<${Detail} id=${route.value.argument} key=${route.value.argument} />` : html`<${List} />`);

const up = (row) => row.instances.filter((instance) => instance.takes_traffic).length;

function List() {
  const [filter, setFilter] = useState('');
  const rows = live.value.services.filter((row) => matches(filter, row.service, ...row.versions.map((version) => version.version)));
  const columns = [
    { title: 'Service', value: (row) => row.service, cell: (row) => html`<${Service} id=${row.service} />` },
    { title: 'Requests', right: true, value: (row) => row.rate, cell: (row) => load(row) },
    { title: 'Trend', cell: (row) => html`<${Spark} points=${history.get(row.service)} />` },
    { title: 'Errors', right: true, value: (row) => row.errors, cell: (row) => html`<${Errors} row=${row} />` },
    { title: 'p50', right: true, value: (row) => row.latency.p50, cell: (row) => millis(row.latency.p50) },
    { title: 'p95', right: true, value: (row) => row.latency.p95, cell: (row) => millis(row.latency.p95) },
    { title: 'p99', right: true, value: (row) => row.latency.p99, cell: (row) => millis(row.latency.p99) },
    { title: 'Instances', right: true, hint: 'taking traffic, of those registered', value: (row) => up(row), cell: (row) => html`<${Up} row=${row} />` },
    { title: 'Policies', hint: 'what is not at rest', value: (row) => trouble(row), cell: (row) => html`<${Trouble} counts=${row.policies} />` },
    { title: 'Versions', cell: (row) => html`<${Versions} versions=${row.versions} />` },
  ];
  return html`<section aria-label="Services">
    <header class="bar"><h1>Services</h1><span class="count">${live.value.counts.services}</span><span class="grow"></span>
      <${Filter} value=${filter} onValue=${setFilter} label="Filter by name or version" /></header>
    <${Table} caption="Services" columns=${columns} rows=${rows} id=${(row) => row.service}
      empty=${filter ? 'No service has such a name.' : 'No service is registered and none was called.'} />
  </section>`;
}

/** The more keeps requests away, the more. */
const trouble = ({ policies: of }) => (of ? of.open * 1000 + of.ejected * 10 + of.limiting + of.faults + Number(of.shedding) * 100 : 0);

function Up({ row }) {
  if (row.instances.length === 0) return html`<span class="muted">–</span>`;
  const well = up(row);
  const kind = well === 0 ? 'bad' : well < row.instances.length ? 'warn' : 'ok';
  return html`<span class="dot ${kind}"></span>${well}/${row.instances.length}`;
}

function Detail({ id }) {
  const row = byService.value.get(id);
  const { points, problem } = useSeries(id);
  if (!row) {
    return html`<section><header class="bar"><h1>${id}</h1></header>
      <p class="empty big">Nothing is known of this service: it is not registered and was not called within the hour. <a href=${address('services')}>All services</a></p></section>`;
  }
  const [name, namespace] = split(id);
  const edges = live.value.edges;
  return html`<section aria-label=${`Service ${id}`}>
    <header class="bar"><a class="back" href=${address('services')} aria-label="All services">←</a>
      <h1>${name}<small>.${namespace}</small></h1><${Up} row=${row} /><span class="grow"></span>
      <a class="chip" href=${address('map', null, { focus: id, select: id })}>On the map</a></header>
    <div class="figures wide">
      <${Figure} label="requests" value=${rate(row.rate)} /><${Figure} label="errors" value=${row.rate > 0 ? percent(row.errors) : '–'} kind=${health(row.rate, row.errors)} />
      <${Figure} label="p50" value=${millis(row.latency.p50)} /><${Figure} label="p95" value=${millis(row.latency.p95)} /><${Figure} label="p99" value=${millis(row.latency.p99)} />
      <${Figure} label="open requests" value=${number(row.open)} /><${Figure} label="retries" value=${rate(row.retries)} />
      <${Figure} label="in" value=${`${bytes(row.received)}/s`} hint="bytes towards the service" /><${Figure} label="out" value=${`${bytes(row.sent)}/s`} hint="bytes from the service" />
      ${(row.connections_open > 0 || row.connections > 0) && html`<${Figure} label="TCP" value=${connections(row.connections_open, row.connections)} />`}
    </div>
    ${problem && html`<p class="notice bad" role="alert">The curves cannot be read: ${problem}</p>`}
    ${points.length < 2 && !problem && html`<p class="empty">Curves begin when the server has run for some seconds.</p>`}
    ${points.length > 1 && html`<div class="charts">
      <${Chart} title="Requests" points=${points} format=${rate} curves=${[{ name: 'rate', kind: 'c0', value: (point) => point.rate }]} />
      <${Chart} title="Errors" points=${points} format=${percent} top=${0.01} curves=${[{ name: 'share', kind: 'bad', value: (point) => point.errors }]} />
      <${Chart} title="Latency" points=${points} format=${millis} curves=${[
        { name: 'p99', kind: 'c3', value: (point) => point.latency.p99 }, { name: 'p95', kind: 'c1', value: (point) => point.latency.p95 }, { name: 'p50', kind: 'c0', value: (point) => point.latency.p50 }]} />
    </div>`}
    <${Policies} id=${id} />
    ${row.outcomes.length > 0 && html`<h2>What goes wrong</h2><${OutcomeTable} rows=${row.outcomes} />`}
    ${row.versions.length > 0 && html`<h2>Versions</h2><${VersionTable} rows=${row.versions} />`}
    <h2>Instances</h2><${InstanceTable} rows=${row.instances} />
    <h2>Called by</h2><${EdgeTable} edges=${edges.filter((edge) => edge.destination === id)} without="To" />
    <h2>Calls</h2><${EdgeTable} edges=${edges.filter((edge) => edge.source === id)} without="From" />
  </section>`;
}

/** The curves of a service, asked for every few seconds while the page is seen. */
function useSeries(id) {
  const [state, setState] = useState({ points: [], problem: null });
  const seconds = windowSeconds.value;
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    const load = () => read(`/api/v1/dashboard/services/${encodeURIComponent(id)}?window=${Math.max(300, seconds)}`, abort.signal)
      .then((points) => setState({ points, problem: null }))
      .catch((error) => { if (!abort.signal.aborted) setState((old) => ({ ...old, problem: error.message })); })
      .finally(() => { if (!abort.signal.aborted) timer = setTimeout(load, EVERY); });
    load();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [id, seconds]);
  return state;
}

const OutcomeTable = ({ rows }) => html`<${Table} caption="Answers that are no success" rows=${rows} id=${(row) => JSON.stringify([row.code, row.flag, row.reason, row.grpc])}
  sort=${3} descending columns=${[
    { title: 'Status', value: (row) => row.code, cell: (row) => html`<${Badge} kind=${row.error ? 'bad' : 'idle'}>${row.code}${row.grpc != null ? ` grpc ${row.grpc}` : ''}<//>` },
    { title: 'Flag', value: (row) => row.flag ?? '', cell: (row) => row.flag ?? '–' },
    { title: 'Why', value: (row) => row.reason ?? '', cell: (row) => (row.reason ? row.reason.replaceAll('_', ' ') : 'the service answered so') },
    { title: 'Rate', right: true, value: (row) => row.rate, cell: (row) => rate(row.rate) },
  ]} />`;

const VersionTable = ({ rows }) => {
  const total = rows.reduce((sum, row) => sum + row.rate, 0);
  return html`<${Table} caption="Traffic by version" rows=${rows} id=${(row) => row.version} columns=${[
    { title: 'Version', value: (row) => row.version, cell: (row) => row.version || html`<span class="muted">none</span>` },
    { title: 'Share', right: true, value: (row) => row.rate, cell: (row) => html`<meter min="0" max="1" value=${total > 0 ? row.rate / total : 0}></meter> ${total > 0 ? percent(row.rate / total) : '–'}` },
    { title: 'Requests', right: true, value: (row) => row.rate, cell: (row) => rate(row.rate) },
    { title: 'Errors', right: true, value: (row) => row.errors, cell: (row) => html`<${Errors} row=${row} />` },
    { title: 'p50', right: true, value: (row) => row.latency.p50, cell: (row) => millis(row.latency.p50) },
    { title: 'p95', right: true, value: (row) => row.latency.p95, cell: (row) => millis(row.latency.p95) },
    { title: 'p99', right: true, value: (row) => row.latency.p99, cell: (row) => millis(row.latency.p99) },
  ]} />`;
};

const InstanceTable = ({ rows }) => html`<${Table} caption="Instances" rows=${rows} id=${(row) => row.id} empty="None is registered." columns=${[
  { title: 'Instance', value: (row) => row.id, cell: (row) => html`<code>${row.id}</code>` },
  { title: 'State', value: (row) => Number(row.takes_traffic), cell: (row) => html`<${State} row=${row} />` },
  { title: 'Address', value: (row) => row.address, cell: (row) => html`<code>${row.address}</code>` },
  { title: 'Ports', cell: (row) => row.ports.map((port) => `${port.number} ${port.protocol}${port.proxy ? ` (proxy ${port.proxy})` : ''}`).join(', ') },
  { title: 'Version', value: (row) => row.version ?? '', cell: (row) => row.version ?? '–' },
  { title: 'Zone', value: (row) => row.zone ?? '', cell: (row) => row.zone ?? '–' },
  { title: 'Weight', right: true, value: (row) => row.weight, cell: (row) => row.weight },
  { title: 'Source', value: (row) => row.source, cell: (row) => row.source || '–' },
  { title: 'Metadata', cell: (row) => html`<${Metadata} entries=${Object.entries(row.metadata)} />` },
]} />`;

function State({ row }) {
  const ejected = policies.value?.rows.find((policy) => policy.kind === 'ejection' && policy.name === row.id);
  const out = ejected && html` <${Badge} kind="bad" title="callers leave it out because of how it answered">out at ${ejected.proxies} caller${ejected.proxies > 1 ? 's' : ''}<//>`;
  if (row.takes_traffic) return html`<${Badge} kind="ok">${row.status === 'up' ? 'up' : row.status}<//>${out}`;
  const kind = row.status === 'draining' || row.status === 'starting' ? 'warn' : 'bad';
  return html`<${Badge} kind=${kind}>${row.status === 'up' ? 'out' : row.status}<//> <small>${row.reason}</small>`;
}

const Metadata = ({ entries }) => (entries.length === 0 ? html`<span class="muted">–</span>` : html`<details class="metadata"><summary>${entries.length}</summary>
  <dl>${entries.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></details>`);
