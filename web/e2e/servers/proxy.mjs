/** The way from a server to the collector, with faults. */
import { once } from 'node:events';
import http from 'node:http';

async function bodyOf(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * Forwards to the collector. `next(attempt)`, counted from 1, says what happens to a request: 'pass', 'cut' (before the collector sees it),
 * 'lose' (the collector accepts, the answer is lost) or a status.
 */
export async function startProxy(collectorPort) {
  const proxy = { requests: [], next: () => 'pass' };

  async function handle(request, response) {
    const body = await bodyOf(request);
    const entry = {
      path: request.url,
      headers: request.headers,
      body: body.toString(),
      status: 0,
      answer: '',
    };
    proxy.requests.push(entry);
    const fault = proxy.next(proxy.requests.length);
    if (fault === 'cut') return request.socket.destroy();
    if (typeof fault === 'number') {
      entry.status = fault;
      return response.writeHead(fault).end();
    }
    const { method, url, headers } = request;
    const upstream = http.request({ host: '127.0.0.1', port: collectorPort, method, path: url, headers });
    upstream.end(body);
    const [answer] = await once(upstream, 'response');
    entry.answer = (await bodyOf(answer)).toString();
    entry.status = answer.statusCode;
    if (fault === 'lose') return request.socket.destroy();
    response.writeHead(answer.statusCode, answer.headers).end(entry.answer);
  }

  const server = http.createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy.origin = `http://127.0.0.1:${server.address().port}`;
  proxy.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return proxy;
}
