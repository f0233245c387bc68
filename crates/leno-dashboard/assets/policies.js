// Policies of a service: what stands between it and its callers, and where each of that stands now.

import { useState } from './vendor/hooks.js';
import { address, policies } from './state.js';
import { Badge, Service, Table, html } from './parts.js';
import { ago, bytes, moment, number, percent, rate, span } from './format.js';

// What a state is called, and its colour.
const STATES = {
  open: ['open', 'bad'], half_open: ['half open', 'warn'], closed: ['closed', 'ok'], held_open: ['held open', 'bad'], held_closed: ['held closed', 'warn'],
  ejected: ['out', 'bad'], probing: ['being tried', 'warn'],
  short: ['short of memory', 'bad'], enough: ['enough memory again', 'ok'], allotted: ['shared', 'ok'], away: ['server away', 'warn'], begun: ['shared, not yet allotted', 'idle'],
};
// The worst first.
const RANK = ['held_open', 'open', 'ejected', 'half_open', 'probing', 'short', 'held_closed', 'away', 'begun', 'allotted', 'enough', 'closed'];
const REASONS = { consecutive: 'failures in a row', failure_ratio: 'too many failures', slow_ratio: 'too many slow answers', probe: 'failed when it was tried' };
const LIMITS = { requests: 'open requests', connections: 'connections', retries: 'open retries' };
const PRIORITIES = ['critical-plus', 'critical', 'sheddable-plus', 'sheddable'];
const KNOWN = ['breaker', 'ejection', 'limit', 'rate_limit', 'retry_budget', 'admission', 'overload', 'pressure', 'fault'];

const words = (text) => text.replaceAll('_', ' ');
const worst = (row) => RANK.find((state) => row.states[state] > 0) ?? '';
const keyOf = (row) => JSON.stringify([row.kind, row.cluster, row.name, row.at]);
/** The holder that counts: the server puts that first. */
const first = (row) => row.holders[0] ?? {};
const fill = (row) => (first(row).max > 0 ? first(row).used / first(row).max : 0);
const sum = (rates) => Object.values(rates).reduce((all, one) => all + one, 0);

/** What is not at rest, for a table of services: at most four words. */
export function Trouble({ counts }) {
  if (!counts) return html`<span class="muted">–</span>`;
  const open = counts.open > 1 ? `${counts.open} breakers open` : 'breaker open';
  return html`<span class="troubles">${counts.open > 0 && html`<${Badge} kind="bad">${open}<//>`}
    ${counts.ejected > 0 && html`<${Badge} kind="bad" title="instances that are left out because of how they answered">${counts.ejected} out<//>`}
    ${counts.shedding && html`<${Badge} kind="bad" title="requests are shed or held back">shedding<//>`}
    ${counts.limiting > 0 && html`<${Badge} kind="warn" title="a limit refuses requests">limited<//>`}
    ${counts.faults > 0 && html`<${Badge} kind="warn" title="something goes wrong on purpose">fault<//>`}</span>`;
}

/** Everything about the policies of the service whose page this is. */
export function Policies({ id }) {
  const document_ = policies.value;
  if (document_?.service !== id) return html`<h2>Policies</h2><p class="empty" aria-busy="true">Asking …</p>`;
  const of = (...kinds) => document_.rows.filter((row) => kinds.includes(row.kind));
  const others = document_.rows.filter((row) => !KNOWN.includes(row.kind));
  const [breakers, ejected, limits, budgets] = [of('breaker'), of('ejection'), of('limit', 'rate_limit'), of('retry_budget')];
  const [shedding, faults] = [of('overload', 'admission', 'pressure'), of('fault')];
  const isEmpty = document_.rows.length === 0 && document_.switches.length === 0 && document_.lanes.length === 0;
  return html`<section class="policies" aria-labelledby="policies">
    <h2 id="policies">Policies</h2>
    <p class="hidden" role="status">${summary(document_)}</p>
    ${document_.resources.length > 0 && html`<p class="muted">In force: ${document_.resources.map((name) => html`<code key=${name}>${name}</code> `)}</p>`}
    ${isEmpty && html`<${Nothing} id=${id} document=${document_} />`}
    ${document_.left_out > 0 && html`<p class="notice warn">${number(document_.left_out)} states of policies, of all services, are more than reports hold and are not shown. What keeps requests away comes first; <code>/endpoints</code> of each proxy's admin listener shows all.</p>`}
    ${breakers.length > 0 && html`<h3>Breakers</h3><${Table} caption="Breakers" rows=${breakers} id=${keyOf} columns=${BREAKERS} rowClass=${worst} />`}
    ${ejected.length > 0 && html`<h3>Ejected instances</h3><${Table} caption="Ejected instances" rows=${ejected} id=${keyOf} columns=${EJECTED} rowClass=${worst} />`}
    ${limits.length > 0 && html`<h3>Limits</h3><${Table} caption="Limits" rows=${limits} id=${keyOf} columns=${LIMIT} />`}
    ${budgets.length > 0 && html`<h3>Retry budget</h3><${Table} caption="Retry budget" rows=${budgets} id=${keyOf} columns=${BUDGET} />`}
    ${shedding.length > 0 && html`<h3>Shedding</h3><${Table} caption="Shedding" rows=${shedding} id=${keyOf} columns=${SHEDDING} />`}
    ${faults.length > 0 && html`<h3>Faults in force</h3><${Table} caption="Faults in force" rows=${faults} id=${keyOf} columns=${FAULTS} />`}
    ${others.length > 0 && html`<h3>Others</h3><${Table} caption="Other policies" rows=${others} id=${keyOf} columns=${OTHERS} />`}
    ${document_.switches.length > 0 && html`<h3>Switches</h3><${Table} caption="Switches" rows=${document_.switches} id=${(row) => `${row.namespace}/${row.name}`} columns=${switchColumns(document_.time)} rowClass=${(row) => (row.on ? 'half_open' : '')} />`}
    ${document_.lanes.length > 0 && html`<h3>Lanes</h3><${Table} caption="Lanes" rows=${document_.lanes} id=${(row) => `${row.namespace}/${row.name}`} columns=${LANES} />`}
  </section>`;
}

/** What a screen reader is told when it changes. */
function summary(document_) {
  const counted = (kind, ...states) => document_.rows.filter((row) => row.kind === kind && states.some((state) => row.states[state] > 0)).length;
  const said = [[counted('breaker', 'open', 'held_open'), 'breakers open'], [counted('breaker', 'half_open'), 'breakers half open'], [counted('ejection', 'ejected', 'probing'), 'instances out'],
    [document_.rows.filter((row) => /limit/.test(row.kind) && row.rates.refused > 0).length, 'limits refuse requests'], [document_.switches.filter((row) => row.on).length, 'switches on']];
  const told = said.filter(([count]) => count > 0).map(([count, text]) => `${count} ${text}`);
  return told.length > 0 ? told.join(', ') : 'no breaker is open';
}

function Nothing({ id, document: { resources } }) {
  const [name, namespace] = id.split('.');
  if (resources.length > 0) return html`<p class="empty">All at rest: no breaker is open, nothing is ejected, no limit is used. Fills are shown while requests come.</p>`;
  return html`<div class="empty"><p>No policy is for this service: nothing breaks, limits or ejects. One that does, for <code>leno apply -f</code>:</p>
    <pre class="example" tabindex="0" aria-label="A policy to begin with">${`apiVersion: leno.mesh/v1
kind: TrafficPolicy
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  targetRefs: [{name: ${name}}]
  breaker: {preset: hystrix}        # 20 requests, half of them failed: 5 s without
  ejection: {consecutiveErrors: 5}  # one instance that fails is left out`}</pre></div>`;
}

const State = ({ state }) => (state ? html`<${Badge} kind=${(STATES[state] ?? [state, 'idle'])[1]}>${(STATES[state] ?? [words(state)])[0]}<//>` : html`<span class="muted">–</span>`);

/** The state, and at how many of those who hold it where they differ. */
function States({ row }) {
  const state = worst(row) || Object.keys(row.states)[0];
  const at = row.states[state];
  return html`<${State} state=${state} /> ${at < row.proxies && html`<small>at ${at} of ${row.proxies}</small>`}`;
}

/** How full it is at the proxy where it is fullest. */
function Fill({ row }) {
  const { used = 0, max = 0 } = first(row);
  if (row.kind === 'admission') return html`<${Amount} row=${row} holder=${first(row)} /> of requests`;
  if (max === 0) return used > 0 ? number(used) : html`<span class="muted">–</span>`;
  const kind = used >= max ? 'bad' : used >= 0.8 * max ? 'warn' : 'ok';
  return html`<span class="fill ${kind}" title=${row.proxies > 1 ? 'at the proxy where it is fullest' : undefined}><meter min="0" max=${max} value=${Math.min(used, max)} aria-label="fill">${used} of ${max}</meter> <${Amount} row=${row} holder=${first(row)} /></span>`;
}

/** How much of it is used, in its unit. */
function Amount({ row, holder: { used = 0, max = 0 } }) {
  if (row.kind === 'admission') return percent(used / 100);
  return row.kind === 'pressure' ? `${bytes(used)} of ${bytes(max)}` : `${number(used)} of ${number(max)}`;
}

/** A rate that is bad when there is any. */
const Bad = ({ value }) => (value > 0 ? html`<b class="refused">${rate(value)}</b>` : html`<span class="muted">0/s</span>`);

/** Which proxies, with how it stands at each. */
function Holders({ row }) {
  const [open, setOpen] = useState(false);
  const text = row.at === 'service' ? 'instance' : 'caller';
  if (row.proxies === 1 && row.holders.length === 1) return html`<${Who} holder=${first(row)} />`;
  return html`<button type="button" class="chip small" aria-expanded=${open} onClick=${() => setOpen(!open)}>${row.proxies} ${text}s</button>
    ${open && html`<ul class="holders">${row.holders.map((holder) => html`<li key=${holder.proxy}><${Who} holder=${holder} />
      ${holder.state && html`<${State} state=${holder.state} />`}${holder.since != null && html`<small>${span(holder.since)}</small>`}${holder.max > 0 && html`<small><${Amount} row=${row} holder=${holder} /></small>`}</li>`)}
      ${row.proxies > row.holders.length && html`<li class="muted">and ${row.proxies - row.holders.length} more</li>`}</ul>`}`;
}

const Who = ({ holder }) => html`<span class="who">${holder.service ? html`<${Service} id=${holder.service} />` : ''} <code title="proxy">${holder.proxy}</code></span>`;
const since = (row) => (first(row).since == null ? html`<span class="muted">–</span>` : span(first(row).since));
const where = (row) => (row.at === 'service' ? 'before the instance' : 'at the caller');

const CLUSTER = { title: 'Cluster', value: (row) => row.cluster, cell: (row) => (row.cluster ? html`<code>${row.cluster}</code>` : 'the service') };
const HOLDERS = { title: 'Held by', value: (row) => row.proxies, cell: (row) => html`<${Holders} row=${row} />` };
const refused = (what = 'refused', title = 'Refused') => ({ title, right: true, value: (row) => row.rates[what] ?? 0, cell: (row) => html`<${Bad} value=${row.rates[what] ?? 0} />` });
const priority = (name) => ({ title: words(name), right: true, hint: `requests of priority ${name} that are not let through`, value: (row) => row.rates[name] ?? 0, cell: (row) => html`<${Bad} value=${row.rates[name] ?? 0} />` });

const BREAKERS = [
  { title: 'State', value: (row) => RANK.indexOf(worst(row)), cell: (row) => html`<${States} row=${row} />` },
  { title: 'Since', right: true, value: (row) => first(row).since ?? -1, cell: since },
  { title: 'Failed or slow', hint: 'of the requests in its window, where it counts them', value: fill, cell: (row) => (first(row).max > 0 ? `${number(first(row).used)} of ${number(first(row).max)}` : html`<span class="muted">–</span>`) },
  refused(),
  { title: 'Opened', right: true, hint: 'times since the proxies started', value: (row) => row.totals.opened ?? 0, cell: (row) => number(row.totals.opened ?? 0) },
  CLUSTER, HOLDERS,
];

const EJECTED = [
  { title: 'Instance', value: (row) => row.name, cell: (row) => html`<code>${row.name}</code>` },
  { title: 'State', value: (row) => RANK.indexOf(worst(row)), cell: (row) => html`<${States} row=${row} />` },
  { title: 'Why', value: (row) => first(row).reason ?? '', cell: (row) => REASONS[first(row).reason] ?? (first(row).reason ? words(first(row).reason) : '–') },
  { title: 'Since', right: true, value: (row) => first(row).since ?? -1, cell: since },
  { title: 'Tried again', right: true, value: (row) => first(row).left ?? 0, cell: (row) => (first(row).state === 'probing' ? 'now' : first(row).left > 0 ? `in ${span(first(row).left)}` : 'with the next request') },
  { title: 'Times', right: true, hint: 'ejections that are not forgiven; each is longer than the one before', value: (row) => row.totals.ejected ?? 0, cell: (row) => number(row.totals.ejected ?? 0) },
  CLUSTER, HOLDERS,
];

const LIMIT = [
  { title: 'Limit', value: (row) => row.name, cell: (row) => html`<b>${row.kind === 'limit' ? LIMITS[row.name] ?? words(row.name) : row.name}</b> ${worst(row) && html`<${States} row=${row} />`}` },
  { title: 'Fill', value: fill, cell: (row) => html`<${Fill} row=${row} />` },
  { title: 'Waiting', right: true, value: (row) => first(row).waiting ?? 0, cell: (row) => number(row.holders.reduce((all, holder) => all + holder.waiting, 0)) },
  refused(),
  { title: 'Passed', right: true, value: (row) => row.rates.passed ?? -1, cell: (row) => (row.rates.passed == null ? html`<span class="muted">–</span>` : rate(row.rates.passed)) },
  { title: 'Where', value: where, cell: where },
  CLUSTER, HOLDERS,
];

const BUDGET = [
  { title: 'Spent', hint: 'retries of those that the budget allows in its window', value: fill, cell: (row) => html`<${Fill} row=${row} />` },
  { title: 'Left', right: true, value: (row) => first(row).max - first(row).used, cell: (row) => number(Math.max(0, first(row).max - first(row).used)) },
  refused('refused', 'Not retried'), CLUSTER, HOLDERS,
];

/** What is shed, and why. */
function Shed({ row }) {
  if (row.kind === 'pressure') return html`<${States} row=${row} /> <small>${first(row).reason?.replaceAll('-', ' ')}</small>`;
  return row.kind === 'overload' ? 'what the instance cannot do' : 'held back by callers';
}

const SHEDDING = [
  { title: 'What', value: (row) => row.kind, cell: (row) => html`<${Shed} row=${row} />` },
  { title: 'Fill', value: fill, cell: (row) => html`<${Fill} row=${row} />` },
  { title: 'Waiting', right: true, value: (row) => first(row).waiting ?? 0, cell: (row) => number(row.holders.reduce((all, holder) => all + holder.waiting, 0)) },
  ...PRIORITIES.map(priority), HOLDERS,
];

const FAULTS = [
  { title: 'Fault', value: (row) => row.name, cell: (row) => html`<${Badge} kind="warn">${row.name}<//>` },
  ...[['delay', 'Delayed'], ['abort', 'Aborted'], ['bandwidth', 'Slowed']].map(([what, title]) => ({ title, right: true, value: (row) => row.rates[what] ?? 0, cell: (row) => rate(row.rates[what] ?? 0) })),
  { title: 'At work', right: true, hint: 'requests that are delayed and answers that are slowed down now', value: (row) => first(row).used, cell: (row) => number(row.holders.reduce((all, holder) => all + holder.used, 0)) },
  { title: 'Left alone', right: true, hint: 'because enough is going wrong', value: (row) => row.rates.skipped ?? 0, cell: (row) => rate(row.rates.skipped ?? 0) },
  HOLDERS,
];

// Kinds that this page does not know: what a newer proxy says of them, as it says it.
const OTHERS = [
  { title: 'What', value: (row) => row.kind, cell: (row) => html`<b>${words(row.kind)}</b> ${row.name}` },
  { title: 'State', value: (row) => first(row).state ?? '', cell: (row) => html`<${State} state=${first(row).state} />` },
  { title: 'Fill', value: fill, cell: (row) => html`<${Fill} row=${row} />` },
  { title: 'A second', value: (row) => sum(row.rates), cell: (row) => Object.entries(row.rates).map(([what, value]) => `${words(what)} ${rate(value)}`).join(', ') || '–' },
  CLUSTER, HOLDERS,
];

const switchColumns = (now) => [
  { title: 'Switch', value: (row) => row.name, cell: (row) => html`<b>${row.name}</b>` },
  { title: 'State', value: (row) => Number(!row.on), cell: (row) => html`<${Badge} kind=${row.on ? 'warn' : 'ok'}>${row.on ? 'on' : 'off'}<//>` },
  { title: 'Turned', value: (row) => row.at ?? '', cell: (row) => (row.at ? html`<time datetime=${row.at} title=${moment(row.at)}>${ago(row.at, now)}</time> by ${row.by}` : 'never') },
  { title: 'Scheduled', cell: (row) => [row.from && `from ${moment(row.from)}`, row.until && `until ${moment(row.until)}`].filter(Boolean).join(' ') || '–' },
  { title: 'Degrades', cell: (row) => row.targets.map((target) => html`<code key=${target}>${target}</code> `) },
  { title: 'To turn it', cell: (row) => html`<code>leno switch ${row.name} ${row.on ? 'off' : 'on'} -n ${row.namespace}</code> <a href=${address('changes')}>history</a>` },
];

const LANES = [
  { title: 'Lane', value: (row) => row.name, cell: (row) => html`<b>${row.name}</b>` },
  { title: 'Requests with', value: (row) => row.tag, cell: (row) => html`<code>${row.tag}</code>` },
  { title: 'Version', value: (row) => row.version, cell: (row) => row.version },
  { title: 'Beside', cell: (row) => row.others.join(', ') || '–' },
];
