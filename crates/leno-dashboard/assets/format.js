// Numbers and times for people. Everything returns text; markup is made by htm alone.

/** Three significant digits at most, thousands as k and M. */
export function number(value) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size >= 999_500) return trim(value / 1e6, 3) + ' M';
  if (size >= 9_995) return trim(value / 1e3, 3) + ' k';
  if (size === 0) return '0';
  if (size < 0.01) return '<0.01';
  return trim(value, 3);
}

function trim(value, digits) {
  const text = value.toPrecision(digits);
  const plain = text.includes('e') ? String(Math.round(value)) : text;
  return plain.includes('.') ? plain.replace(/\.?0+$/, '') : plain;
}

/** A rate of requests. */
export const rate = (value) => `${number(value)}/s`;

/** TCP connections: those that are open, or how many are made where they last less than a second. */
export const connections = (open, opened) => (open < opened ? `${number(opened)} conn/s` : `${number(open)} conn`);

/** A share of 1 as per cent. */
export function percent(share) {
  if (!Number.isFinite(share)) return '–';
  if (share === 0) return '0 %';
  if (share < 0.0005) return '<0.1 %';
  // 99.96 % must not become 100 %: not all is well.
  if (share > 0.999 && share < 1) return '99.9 %';
  return `${(share * 100).toFixed(share < 0.1 || share > 0.9 ? 1 : 0).replace(/\.0$/, '')} %`;
}

/** Milliseconds; none is a dash. */
export function millis(value) {
  if (value == null) return '–';
  if (value === 0) return '0 ms';
  if (value >= 10_000) return `${(value / 1000).toFixed(0)} s`;
  if (value >= 1_000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 10) return `${value.toFixed(0)} ms`;
  return `${value.toFixed(value < 1 ? 2 : 1)} ms`;
}

/** Bytes in powers of 1,024. */
export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** A span of seconds. */
export function span(seconds) {
  if (seconds < 0.95) return '<1 s';
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** How long ago a moment was, by the server's clock. */
export function ago(time, now) {
  const seconds = (Date.parse(now) - Date.parse(time)) / 1000;
  return Number.isFinite(seconds) ? `${span(Math.max(0, seconds))} ago` : '–';
}

/** A moment in the browser's zone. */
export function moment(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? String(time) : date.toLocaleString();
}

/** Requests of a row; a service of bytes has connections instead. */
export function load(row) {
  if (row.rate === 0 && (row.connections_open > 0 || row.received + row.sent > 0)) return connections(row.connections_open, row.connections);
  return rate(row.rate);
}

/** `ok`, `warn`, `bad` or `idle`, for colours. */
export function health(requests, errors) {
  if (!(requests > 0)) return 'idle';
  if (errors >= 0.05) return 'bad';
  return errors >= 0.01 ? 'warn' : 'ok';
}

/** What stands for a service that is none. */
export function peerName(id) {
  if (id === 'unknown') return 'outside callers';
  if (id === 'passthrough') return 'outside world';
  return id === 'overflow' ? 'all others' : id;
}

/** Name and namespace of `cart.shop`. */
export function split(id) {
  const dot = id.indexOf('.');
  return dot < 0 ? [peerName(id), ''] : [id.slice(0, dot), id.slice(dot + 1)];
}

/** Cuts in the middle of nothing: at the end, with an ellipsis. */
export const short = (text, max) => (text.length > max ? `${text.slice(0, max - 1)}…` : text);
