/** The way from the browser to the collector, with faults, and the pages of a shop on another origin. */
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { KEY } from './collector.mjs';

async function listen(handler) {
  const server = http.createServer((request, response) => {
    handler(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * Forwards to the collector. `faults.next(attempt)` says what happens to a request: 'pass', 'cut' (before the collector sees it), 'lose'
 * (the collector accepts, the answer is lost), { status, retryAfter }, or { delay } in ms.
 */
export async function startProxy(collectorPort) {
  const log = { requests: [], preflights: 0 };
  const proxy = { log, next: () => 'pass', scriptDelay: 0 };

  async function forward(request, body) {
    const upstream = http.request({
      host: '127.0.0.1',
      port: collectorPort,
      method: request.method,
      path: request.url,
      headers: request.headers,
    });
    upstream.end(body);
    const [answer] = await once(upstream, 'response');
    return { answer, text: await bodyOf(answer) };
  }

  async function track(request, response) {
    if (request.method === 'OPTIONS') log.preflights++;
    const body = await bodyOf(request);
    const events = JSON.parse(body);
    const entry = { at: Date.now(), events, bytes: body.length, reached: false, status: 0 };
    log.requests.push(entry);
    const fault = proxy.next(log.requests.length);
    if (fault.delay) await sleep(fault.delay);
    if (fault === 'cut') return request.socket.destroy();
    if (fault.status) {
      entry.status = fault.status;
      response.writeHead(fault.status, {
        'access-control-allow-origin': '*',
        'access-control-expose-headers': 'retry-after',
        'content-type': 'application/problem+json',
        ...(fault.retryAfter && { 'retry-after': `${fault.retryAfter}` }),
      });
      return response.end('{}');
    }
    const { answer, text } = await forward(request, body);
    entry.reached = true;
    entry.status = answer.statusCode;
    if (fault === 'lose') return request.socket.destroy();
    response.writeHead(answer.statusCode, answer.headers);
    response.end(text);
  }

  const { server, origin } = await listen(async (request, response) => {
    if (request.url.startsWith('/track')) return track(request, response);
    // The script, as the collector serves it.
    if (proxy.scriptDelay) await sleep(proxy.scriptDelay);
    const { answer, text } = await forward(request, '');
    response.writeHead(answer.statusCode, answer.headers);
    response.end(text);
  });
  proxy.origin = origin;
  proxy.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return proxy;
}

/** A page with the tracker, as a script or as a bundle of a package. */
function html(kind, proxy, { user, sandbox }) {
  const early = `
    window.HerdTracker = window.HerdTracker || [];
    window.refused = [];
    window.call = (...values) => { HerdTracker.push ? HerdTracker.push(values) : HerdTracker[values[0]](...values.slice(1)); };
    call('identify', ${JSON.stringify(user)});`;
  const script =
    kind === 'script'
      ? `<script>${early}</script>
      <script async src="${proxy.origin}/herd.js" data-key="${KEY}"></script>`
      : `<script>window.shop = ${JSON.stringify({ endpoint: `${proxy.origin}/track`, key: KEY, user })};</script>
      <script type="module" src="/app.js" ${sandbox ? 'crossorigin' : ''}></script>`;
  return `<!doctype html><meta charset="utf-8"><title>Shop</title>${script}
    <a id="next" href="/second" data-herd-event="tracked" data-herd-item="click" data-herd-properties='{"n":1}'>next</a>`;
}

/** The shop: every path is a page. */
export async function startShop(kind, proxy, bundle, options) {
  const { server, origin } = await listen(async (request, response) => {
    if (request.url === '/app.js') {
      if (proxy.scriptDelay) await sleep(proxy.scriptDelay);
      response.writeHead(200, { 'content-type': 'text/javascript', 'access-control-allow-origin': '*' });
      return response.end(bundle);
    }
    response.writeHead(200, {
      'content-type': 'text/html',
      ...(options.sandbox && { 'content-security-policy': 'sandbox allow-scripts' }),
    });
    response.end(request.url === '/favicon.ico' ? '' : html(kind, proxy, options));
  });
  return {
    origin,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
