// What all screens share: the live document, the connection that brings it, the address, the reader's choices.

import { computed, effect, signal } from './vendor/signals.js';

export const WINDOWS = [[30, '30 s'], [60, '1 min'], [300, '5 min'], [900, '15 min'], [3600, '1 h']];
/** Points that are kept for the small curves in tables. */
const HISTORY = 60;
/** No document for so long: the connection is lost. */
const SILENCE = 5000;

/** The last document; null before the first. */
export const live = signal(null);
/** How the policies of the service stand whose page is seen; null before they are known. */
export const policies = signal(null);
/** `connecting`, `live`, `lost` or `denied`. */
export const link = signal('connecting');
export const windowSeconds = signal(remembered('window', 60));
export const theme = signal(remembered('theme', 'auto'));
/** The address behind `#/`: the screen, its argument, its parameters. */
export const route = signal(parse(location.hash));
/** Rates by service, oldest first. */
export const history = new Map();

export const byService = computed(() => new Map((live.value?.services ?? []).map((row) => [row.service, row])));

/** The service whose page is seen. */
const seen = computed(() => (route.value.screen === 'services' ? route.value.argument : null));

let source = null;
let silence = 0;

export function start() {
  addEventListener('hashchange', () => { route.value = parse(location.hash); });
  applyTheme();
  // Runs at once, and whenever the page of another service is seen.
  effect(() => {
    if (policies.peek()?.service !== seen.value) policies.value = null;
    connect();
  });
}

export function setWindow(seconds) {
  remember('window', seconds);
  windowSeconds.value = seconds;
  history.clear();
  connect();
}

export function setTheme(name) {
  remember('theme', name);
  theme.value = name;
  applyTheme();
}

/** The address of a screen. Every part is encoded: names come from others. */
export function address(screen, argument, parameters) {
  const path = argument == null ? screen : `${screen}/${encodeURIComponent(argument)}`;
  const query = new URLSearchParams(parameters ?? {}).toString();
  return `#/${path}${query ? `?${query}` : ''}`;
}

/** Reads JSON from the API; throws what the API says. */
export async function read(path, abort) {
  const response = await fetch(path, { signal: abort, headers: { accept: 'application/json' } });
  if (response.status === 401 || response.status === 403) link.value = 'denied';
  const document = await response.json().catch(() => null);
  if (!response.ok) throw new Error(document?.error ?? `the server answered ${response.status}`);
  return document;
}

function connect() {
  source?.close();
  clearTimeout(silence);
  const service = seen.peek();
  const opened = new EventSource(`/api/v1/live?window=${windowSeconds.peek()}${service && isName(service) ? `&service=${encodeURIComponent(service)}` : ''}`);
  source = opened;
  opened.addEventListener('policies', (event) => {
    const document = JSON.parse(event.data);
    if (document) policies.value = document;
  });
  opened.onmessage = (event) => {
    const document = JSON.parse(event.data);
    if (!document) return;
    keep(document);
    live.value = document;
    link.value = 'live';
    clearTimeout(silence);
    silence = setTimeout(() => { link.value = 'lost'; }, SILENCE);
  };
  opened.onerror = () => {
    if (link.value !== 'denied') link.value = live.value ? 'lost' : 'connecting';
    // A refusal ends the stream for good; the reason is only in an answer that can be read.
    if (opened.readyState === EventSource.CLOSED) {
      read('/api/v1/dashboard/changes?limit=1').catch(() => {}).finally(() => {
        if (source === opened) setTimeout(connect, link.value === 'denied' ? 5000 : 1000);
      });
    }
  };
}

/** Whether this can be a service: an address may be anything. */
const isName = (text) => /^[a-z0-9-]+\.[a-z0-9-]+$/.test(text);

function keep(document) {
  for (const row of document.services) {
    const points = history.get(row.service) ?? [];
    points.push(row.rate);
    if (points.length > HISTORY) points.shift();
    history.set(row.service, points);
  }
}

function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const [screen, argument] = path.split('/');
  const known = ['map', 'services', 'proxies', 'changes'];
  return {
    screen: known.includes(screen) ? screen : 'map',
    argument: argument ? decode(argument) : null,
    parameters: new URLSearchParams(query ?? ''),
  };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function applyTheme() {
  document.documentElement.dataset.theme = theme.value;
}

function remembered(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`leno.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`leno.${name}`, JSON.stringify(value));
  } catch {
    // Private browsing: the choice lasts as long as the page.
  }
}
