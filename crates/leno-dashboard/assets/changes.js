// Changes: every revision, who made it, when, and what it changed.

import { useEffect, useState } from './vendor/hooks.js';
import { address, live, read, route } from './state.js';
import { Badge, html } from './parts.js';
import { ago, moment } from './format.js';

const PAGE = 50;
// By what was done.
const KINDS = { apply: 'ok', delete: 'bad', rollback: 'warn' };

export function Changes() {
  const [state, setState] = useState({ rows: [], problem: null, more: true, loading: true });
  const revision = live.value.revision;
  const chosen = route.value.argument;
  // A new revision comes first; what was read before stays.
  useEffect(() => {
    const abort = new AbortController();
    load(null, abort.signal).then((rows) => setState((old) => {
      const newest = new Set(rows.map((row) => row.revision));
      const kept = old.rows.filter((row) => !newest.has(row.revision));
      const gap = kept.length > 0 && rows.length > 0 && kept[0].revision + 1 < rows.at(-1).revision;
      return { rows: gap ? rows : [...rows, ...kept], more: old.rows.length === 0 || gap ? rows.length === PAGE : old.more, problem: null, loading: false };
    })).catch((error) => { if (!abort.signal.aborted) setState((old) => ({ ...old, problem: error.message, loading: false })); });
    return () => abort.abort();
  }, [revision]);
  const older = () => load(state.rows.at(-1)?.revision).then((rows) => setState((old) => ({ ...old, rows: [...old.rows, ...rows], more: rows.length === PAGE })))
    .catch((error) => setState((old) => ({ ...old, problem: error.message })));
  return html`<section aria-label="Changes">
    <header class="bar"><h1>Changes</h1><span class="count">revision ${revision}</span></header>
    ${state.problem && html`<p class="notice bad" role="alert">The changes cannot be read: ${state.problem}</p>`}
    ${state.rows.length === 0 && !state.loading && !state.problem && html`<p class="empty big">Nothing was changed yet. Apply resources with <code>leno apply -f folder/</code>.</p>`}
    <ol class="changes">${state.rows.map((row) => html`<${Row} key=${row.revision} row=${row} open=${chosen === String(row.revision)} />`)}</ol>
    ${state.rows.length > 0 && state.more && html`<button type="button" class="more" onClick=${older}>Older changes</button>`}
  </section>`;
}

const load = (before, abort) => read(`/api/v1/dashboard/changes?limit=${PAGE}${before ? `&before=${before}` : ''}`, abort);

function Row({ row, open }) {
  const word = row.action;
  return html`<li class=${open ? 'open' : ''}>
    <a class="line" href=${address('changes', open ? null : row.revision)} aria-expanded=${open}>
      <b>${row.revision}</b>${KINDS[word] && html`<${Badge} kind=${KINDS[word]}>${word}<//>`}
      <span class="what">${row.resources.slice(0, 4).map((name) => html`<code key=${name}>${name}</code> `)}${row.resources.length > 4 ? `and ${row.resources.length - 4} more` : ''} <span class="muted">${row.summary}</span></span>
      <span class="who">${row.author}</span><time datetime=${row.time} title=${moment(row.time)}>${ago(row.time, live.value.time)}</time></a>
    ${open && html`<${Difference} revision=${row.revision} row=${row} />`}
  </li>`;
}

function Difference({ revision, row }) {
  const [state, setState] = useState({ diff: null, problem: null });
  useEffect(() => {
    const abort = new AbortController();
    read(`/api/v1/dashboard/changes/${revision}`, abort.signal).then((change) => setState({ diff: change.diff, problem: null }))
      .catch((error) => { if (!abort.signal.aborted) setState({ diff: null, problem: error.message }); });
    return () => abort.abort();
  }, [revision]);
  return html`<div class="difference">
    <p class="muted">${moment(row.time)} by ${row.author}${row.set ? `, set ${row.set}` : ''}${row.revision > 1 && html` · to undo it: <code>leno rollback ${row.revision - 1}${row.set && row.set !== 'api' && safe(row.set) ? ` --set ${row.set}` : ''}</code>`}</p>
    ${state.problem && html`<p class="notice bad" role="alert">${state.problem}</p>`}
    ${state.diff != null && (state.diff === '' ? html`<p class="empty">No resource differs.</p>`
      : html`<pre class="diff" tabindex="0" aria-label=${`Difference of revision ${revision}`}>${state.diff.trimEnd().split('\n').map((text, index) => html`<span key=${index} class=${kind(text)}>${text}${'\n'}</span>`)}</pre>`)}
  </div>`;
}

/** Whether a name stands for itself in a shell. */
const safe = (name) => /^[\w./:-]+$/.test(name);

function kind(line) {
  if (line.startsWith('+++') || line.startsWith('---')) return 'file';
  if (line.startsWith('@@')) return 'place';
  return line.startsWith('+') ? 'added' : line.startsWith('-') ? 'removed' : '';
}
