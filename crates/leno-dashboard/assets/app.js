// The frame around all screens: navigation, window of time, state of the connection.

import { render } from './vendor/preact.js';
import { useEffect } from './vendor/hooks.js';
import './vendor/signals.js';
import { WINDOWS, address, link, live, route, setTheme, setWindow, start, theme, windowSeconds } from './state.js';
import { html } from './parts.js';
import { moment, span } from './format.js';
import { Map_ } from './map.js';
import { Services } from './services.js';
import { Proxies } from './proxies.js';
import { Changes } from './changes.js';

const SCREENS = [['map', 'Map', Map_], ['services', 'Services', Services], ['proxies', 'Proxies', Proxies], ['changes', 'Changes', Changes]];
const LINK = { connecting: 'connecting', live: 'live', lost: 'connection lost', denied: 'not signed in' };
const THEMES = { auto: ['light', 'Light or dark as the system; choose light'], light: ['dark', 'Light; choose dark'], dark: ['auto', 'Dark; choose as the system'] };

function App() {
  const document_ = live.value;
  const current = route.value.screen;
  const [, title, Screen] = SCREENS.find(([name]) => name === current);
  useEffect(() => { document.title = `${route.value.argument ?? title} · leno`; }, [current, route.value.argument]);
  useEffect(() => {
    const press = (event) => {
      if (event.key !== '/' || event.target.closest('input')) return;
      const field = document.querySelector('input.filter');
      if (field) {
        event.preventDefault();
        field.focus();
      }
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById('main').focus(); }}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${address('map')}><img src="icon.svg" alt="" width="24" height="24" /><b>leno</b></a>
      <nav aria-label="Screens">${SCREENS.map(([name, label]) => html`
        <a key=${name} href=${address(name)} aria-current=${name === current ? 'page' : undefined}>${label}${name === 'proxies' && document_?.counts.not_synced > 0
          ? html` <span class="alarm ${document_.counts.rejected > 0 ? 'bad' : 'warn'}" title="not synced">${document_.counts.not_synced}</span>` : ''}</a>`)}</nav>
      <span class="grow"></span>
      <label class="window">Last <select value=${String(windowSeconds.value)} onChange=${(event) => setWindow(Number(event.target.value))}>
        ${WINDOWS.map(([seconds, label]) => html`<option key=${seconds} value=${String(seconds)} selected=${seconds === windowSeconds.value}>${label}</option>`)}</select></label>
      <button type="button" class="theme" title=${THEMES[theme.value][1]} aria-label=${THEMES[theme.value][1]} onClick=${() => setTheme(THEMES[theme.value][0])}>
        ${{ auto: '◐', light: '○', dark: '●' }[theme.value]}</button>
      <span class="link ${link.value}" role="status"><i aria-hidden="true"></i>${LINK[link.value]}</span>
    </header>
    ${link.value === 'denied' && html`<p class="notice bad" role="alert">This browser is not signed in. Links that sign in work once: <code>leno demo</code> prints one, and a server gives one for <code>POST /api/v1/login-link</code> with a token.</p>`}
    ${link.value === 'lost' && document_ && html`<p class="notice warn" role="alert">The server does not answer. What you see is from ${moment(document_.time)}; proxies go on with what they have.</p>`}
    <main id="main" tabindex="-1" class=${link.value === 'lost' || link.value === 'denied' ? 'stale' : ''}>
      ${document_ ? html`<${Screen} />` : html`<p class="empty big">${link.value === 'denied' ? '' : 'Waiting for the server …'}</p>`}
    </main>
    ${document_ && html`<footer>leno ${document_.version} · up ${span(document_.uptime)} · ${document_.counts.services} services · ${document_.counts.instances_up}/${document_.counts.instances} instances up · ${document_.counts.proxies} proxies · revision ${document_.revision}</footer>`}`;
}

start();
render(html`<${App} />`, document.getElementById('app'));
