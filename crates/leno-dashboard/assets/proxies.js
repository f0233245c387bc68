// Proxies: who has what it should have, who does not and why.

import { address, live, route } from './state.js';
import { useState } from './vendor/hooks.js';
import { Badge, Filter, Service, Table, html, matches } from './parts.js';
import { bytes, number, percent, span } from './format.js';

const KINDS = { synced: 'ok', behind: 'warn', rejected: 'bad', disconnected: 'idle' };

export function Proxies() {
  const [filter, setFilter] = useState('');
  const { counts, proxies } = live.value;
  const troubled = route.value.parameters.get('only') === 'not-synced';
  const rows = proxies.filter((row) => (!troubled || row.state !== 'synced') && matches(filter, row.id, row.service, row.instance, row.version, row.state));
  const rejected = proxies.filter((row) => row.rejections.length > 0);
  const columns = [
    { title: 'Proxy', value: (row) => row.id, cell: (row) => html`<code>${row.id}</code>${row.role === 'gateway' ? html` <${Badge} kind="idle">gateway<//>` : ''}` },
    { title: 'Configuration', value: (row) => ['rejected', 'behind', 'disconnected', 'synced'].indexOf(row.state), cell: (row) => html`<${Sync} row=${row} />` },
    { title: 'Service', value: (row) => row.service, cell: (row) => (row.service ? html`<${Service} id=${row.service} />` : '–') },
    { title: 'Version', value: (row) => row.version, cell: (row) => row.version || '–' },
    { title: 'Memory', right: true, value: (row) => row.rss_bytes, cell: (row) => (row.rss_bytes > 0 ? bytes(row.rss_bytes) : '–') },
    { title: 'CPU', right: true, hint: 'of one core', value: (row) => row.cpu, cell: (row) => (row.age == null ? '–' : percent(row.cpu)) },
    { title: 'Open', right: true, hint: 'requests that are open', value: (row) => row.open, cell: (row) => number(row.open) },
    { title: 'Descriptors', right: true, value: (row) => row.fds, cell: (row) => (row.fds > 0 ? number(row.fds) : '–') },
    { title: 'Resources', right: true, hint: 'that it is subscribed to', value: (row) => row.resources, cell: (row) => number(row.resources) },
    { title: 'Last report', right: true, value: (row) => row.age, cell: (row) => (row.age == null ? html`<span class="muted">none</span>` : html`<span class=${row.age > 5 ? 'late' : ''}>${span(row.age)} ago</span>`) },
  ];
  return html`<section aria-label="Proxies">
    <header class="bar"><h1>Proxies</h1><span class="count">${counts.proxies}</span>
      <a class="chip" aria-current=${troubled ? 'true' : undefined} href=${address('proxies', null, troubled ? {} : { only: 'not-synced' })}>
        ${troubled ? 'show all' : `${counts.not_synced} not synced`}</a>
      <span class="grow"></span><${Filter} value=${filter} onValue=${setFilter} label="Filter by proxy, service or version" /></header>
    ${rejected.map((row) => html`<div class="notice bad" role="alert" key=${row.id}><b>${row.id}</b> refused what it was sent and runs on with what it had before:
      <ul>${row.rejections.map((rejection) => html`<li key=${rejection.resource}><code>${rejection.resource}</code> ${rejection.reason}</li>`)}</ul></div>`)}
    <${Table} caption="Proxies" columns=${columns} rows=${rows} id=${(row) => row.id} sort=${1} rowClass=${(row) => row.state}
      empty=${proxies.length > 0 ? 'All proxies have what they should have.' : 'No proxy is connected. Start one with leno run or leno proxy.'} />
  </section>`;
}

function Sync({ row }) {
  const text = row.state === 'behind' ? `behind by ${span(row.behind)}` : row.state;
  const title = row.rejections.map((rejection) => `${rejection.resource}: ${rejection.reason}`).join('\n');
  return html`<${Badge} kind=${KINDS[row.state]} title=${title}>${text}<//>`;
}
